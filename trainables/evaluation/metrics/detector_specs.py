"""The post-hoc outlier detectors by name; readable without torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described, described_type
from trainables.base.registry import Registry, resolve_reference


@dataclass(frozen=True)
class DetectorSpec:
    """A post-hoc outlier detector, reported as `<name>/auroc/<set>` and so on.

    Attributes:
        name: as protocols say it, and metric names (of the user's own code by `short_name`).
        about: its score, in one phrase.
        needs: what it reads besides logits, for the documentation.
        source: the paper.
        detector: "module:class" of a `trainables.evaluation.detectors.base.Detector` whose defaults are the paper's
            settings, imported on use, because it needs torch; or what makes one without arguments.
    """

    name: str
    about: str
    needs: str
    source: str
    detector: str | Callable[[], Any]

    def load(self) -> Any:
        """Return a new detector with the paper's settings, not fitted yet."""
        return resolve_reference(self.detector)()


def own_detector(name: str, thing: Any) -> DetectorSpec:
    """Return the spec of a detector class of the user's own.

    Raises:
        InputError: it is no class with the methods of a detector.
    """
    if isinstance(thing, DetectorSpec):
        return replace(thing, name=name)
    if not isinstance(thing, type) or not (hasattr(thing, "score") or hasattr(thing, "score_features")):
        raise InputError(
            f"it is {described_type(thing)}; it must be a class that extends Detector or FeatureDetector of "
            "trainables.evaluation.detectors.base"
        )
    return DetectorSpec(name, described(thing), "", "", thing)


_IN = "trainables.evaluation.detectors"

DETECTORS = Registry(
    "detector",
    [
        DetectorSpec(
            "odin",
            "largest softmax probability at temperature 1000 after one step towards the prediction",
            "gradients",
            "Liang et al. 2018",
            f"{_IN}.odin:Odin",
        ),
        DetectorSpec(
            "mahalanobis",
            "distance to the nearest class mean under the shared covariance",
            "features of training images",
            "Lee et al. 2018",
            f"{_IN}.mahalanobis:Mahalanobis",
        ),
        DetectorSpec(
            "knn",
            "distance to the 50th nearest training image (CIFAR-100: 200th, ImageNet: 1000th), features of unit length",
            "features of training images",
            "Sun et al. 2022",
            f"{_IN}.knn:Knn",
        ),
        DetectorSpec(
            "vim",
            "energy plus the length of the features outside the training images' subspace",
            "features of training images, last layer",
            "Wang et al. 2022",
            f"{_IN}.vim:Vim",
        ),
        DetectorSpec(
            "react",
            "energy of features cut off at their 90 % quantile",
            "features of training images, last layer",
            "Sun et al. 2021",
            f"{_IN}.react:React",
        ),
        DetectorSpec(
            "ash",
            "energy of features of which the smallest 65 % are set to 0",
            "features, last layer",
            "Djurisic et al. 2023",
            f"{_IN}.ash:Ash",
        ),
        DetectorSpec(
            "cores",
            "how strongly and how often convolution kernels respond, against noise",
            "activations of every stage",
            "Tang et al. 2024",
            f"{_IN}.cores:CoresDetector",
        ),
    ],
    others=OwnSpecs("detector", "detectors", own_detector),
)
