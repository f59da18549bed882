"""Distance to the k-th nearest training image in feature space."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.features import in_double


@dataclass
class Knn(FeatureDetector):
    """The distance to the k-th nearest training image, features scaled to unit length.

    Source:
        Sun et al. 2022; k = 50 is theirs for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet. Own code: pytorch-ood
        0.4 computes the same distances (before 0.3: k = 1, lengths kept), but always starts a worker for every
        core of the node, beside the other trials that run there, and leaves the GPU for it.

    Example:
        k = 2, training features (1, 0), (0, 3), (-2, 0): from (5, 0) they lie 0, sqrt 2 and 2 away, so sqrt 2.
    """

    k: int = 50

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        if len(features) < self.k:
            raise InputError(
                f"the KNN detector looks for neighbour {self.k}, but there are only {len(features)} training images"
            )
        self._bank = F.normalize(features.double(), dim=1)
        return self

    def score_features(self, features: Tensor) -> Tensor:
        def to_neighbour(z: Tensor) -> Tensor:
            z = F.normalize(z, dim=1)
            # float64: for near neighbours |a - b|^2 = 2 - 2 a b loses half of the digits
            squared = z.square().sum(1, keepdim=True) + self._bank.square().sum(1) - 2 * z @ self._bank.T
            return squared.topk(self.k, dim=1, largest=False).values[:, -1].clamp_min(0).sqrt()

        return in_double(to_neighbour, features)
