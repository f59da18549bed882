"""One Ray Trainable per training method, each usable alone with `ray.tune.Tuner`."""

from trainables.base import MethodTrainable


class StudyTrainable(MethodTrainable):
    """The Trainable of the service: the method is named in the configuration, so arms can share actors."""


class StandardTrainable(MethodTrainable):
    """Cross-entropy training."""

    method_name = "standard"


class OETrainable(MethodTrainable):
    """Outlier exposure."""

    method_name = "oe"


class AOETrainable(MethodTrainable):
    """Adversarial outlier exposure."""

    method_name = "aoe"
