"""Distance to the k-th nearest training image in feature space."""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.features import in_double

NEIGHBOURS = 50
#: {data set: (k, of so many training images)} of the paper; 0: of those that are there
BY_DATASET = {"cifar10": (50, 0), "cifar100": (200, 0), "imagenet": (1000, 1_281_167)}


@dataclass
class Knn(FeatureDetector):
    """The distance to the k-th nearest training image, features scaled to unit length.

    Attributes:
        k: which neighbour.
        of: of so many training images; with fewer the same share of them. 0: k whatever their number.

    Source:
        Sun et al. 2022; `BY_DATASET` has their k, 50 is that of other data. With a share of ImageNet they take that
        share of 1000, as here: 39 of the 50,000 images that are looked at. Own code: pytorch-ood 0.4 computes the same
        distances (before 0.3: k = 1, lengths kept), but always starts a worker for every core of the node, beside the
        other trials that run there, and leaves the GPU for it.

    Example:
        k = 2, training features (1, 0), (0, 3), (-2, 0): from (5, 0) they lie 0, sqrt 2 and 2 away, so sqrt 2.
    """

    k: int = NEIGHBOURS
    of: int = 0

    def for_dataset(self, dataset: str) -> Self:
        k, of = BY_DATASET.get(dataset, (self.k, self.of))
        return replace(self, k=k, of=of)

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        self._neighbour = max(1, round(self.k * min(1.0, len(features) / self.of))) if self.of else self.k
        if len(features) < self._neighbour:
            raise InputError(
                f"the KNN detector looks for neighbour {self._neighbour}, "
                f"but there are only {len(features)} training images"
            )
        self._bank = F.normalize(features.double(), dim=1)
        return self

    def score_features(self, features: Tensor) -> Tensor:
        def to_neighbour(z: Tensor) -> Tensor:
            z = F.normalize(z, dim=1)
            # float64: for near neighbours |a - b|^2 = 2 - 2 a b loses half of the digits
            squared = z.square().sum(1, keepdim=True) + self._bank.square().sum(1) - 2 * z @ self._bank.T
            return squared.topk(self._neighbour, dim=1, largest=False).values[:, -1].clamp_min(0).sqrt()

        return in_double(to_neighbour, features)
