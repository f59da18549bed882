"""One Ray Trainable per training method, each usable alone with `ray.tune.Tuner`."""

from trainables.ray.trainable import MethodTrainable


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


class EnergyTrainable(MethodTrainable):
    """Energy fine-tuning, with GReg on request."""

    method_name = "energy"


class ANTTrainable(MethodTrainable):
    """Adversarial noise training (Game of Noise)."""

    method_name = "ant"


class NoiseAugmentTrainable(MethodTrainable):
    """Gaussian, multi-sigma and speckle augmentation."""

    method_name = "noise_augment"


class RobGANTrainable(MethodTrainable):
    """Generator, discriminator and attacker trained jointly."""

    method_name = "robgan"


class DyARTTrainable(MethodTrainable):
    """Robust training along margin gradients."""

    method_name = "dyart"


class PGDATTrainable(MethodTrainable):
    """PGD adversarial training."""

    method_name = "pgd_at"


class TRADESTrainable(MethodTrainable):
    """TRADES."""

    method_name = "trades"


class MARTTrainable(MethodTrainable):
    """MART."""

    method_name = "mart"
