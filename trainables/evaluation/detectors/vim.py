"""ViM: virtual-logit matching, residual of the features beside the logits."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.features import in_double
from trainables.evaluation.detectors.principal_axes import principal_axes
from trainables.evaluation.metrics.scores import energy


def main_dimensions(width: int) -> int:
    """Return ViM's rule for features of this width."""
    return 1000 if width >= 2048 else 512 if width >= 768 else width // 2


@dataclass
class Vim(FeatureDetector):
    """ViM: one more logit, the length of what the features have outside the subspace of the training images.

    With u = -pinv(W) b the features of all-equal logits, and M the eigenvectors of the `dim` largest eigenvalues of
    the second moment of z - u: score = a |(1 - M M^T) (z - u)| - logsumexp f, where a is the ratio of the mean largest
    logit to the mean length on training images.

    Attributes:
        dim: of the main subspace; 0 = the paper's rule: 1000 of 2048 features, 512 of 768, else half.

    Source:
        Wang et al. 2022. Own code: pytorch-ood 0.4 decomposes in float32, where ReLUs that never fire make many
        equal eigenvalues of 0 whose vectors mix with those of small ones (measured on digits: rank correlation
        .991, AUROC .834 for .845). In float64 both agree where the spectrum is regular.
    """

    dim: int = 0

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        width = features.shape[1]
        dim = self.dim or main_dimensions(width)
        if not 0 < dim < width:
            raise InputError(f"ViM keeps {dim} of {width} dimensions; it must leave at least one")
        self._weight = head.weight.detach().double()
        self._bias = (
            self._weight.new_zeros(len(self._weight)) if head.bias is None else head.bias.detach().double()
        )
        self._origin = -torch.linalg.pinv(self._weight) @ self._bias
        z = features.double()
        centred = z - self._origin
        _, axes = principal_axes(centred, "ViM")  # ascending
        self._main = axes[:, -dim:].contiguous()
        lengths = self._residual(centred)
        smallest = 1e-12 * centred.norm(dim=1).mean()  # images of too low a rank leave nothing outside
        self.alpha = float(self._logits(z).amax(1).mean() / torch.maximum(lengths.mean(), smallest))
        return self

    def _residual(self, centred: Tensor) -> Tensor:
        """Return (n,) lengths of what centred features have outside the main subspace."""
        length: Tensor = (centred - centred @ self._main @ self._main.T).norm(dim=1)
        return length

    def _logits(self, z: Tensor) -> Tensor:
        return z @ self._weight.T + self._bias

    def score_features(self, features: Tensor) -> Tensor:
        def virtual(z: Tensor) -> Tensor:
            return self.alpha * self._residual(z - self._origin) + energy(self._logits(z))

        return in_double(virtual, features)
