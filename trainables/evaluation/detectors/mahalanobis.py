"""Mahalanobis distance of the features to the nearest class mean."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.features import in_double
from trainables.evaluation.detectors.principal_axes import principal_axes


@dataclass
class Mahalanobis(FeatureDetector):
    """The squared Mahalanobis distance to the nearest class mean, min_c (z - mu_c)^T P (z - mu_c).

    P is the inverse of the one covariance of all classes plus `ridge` on its diagonal.

    Source:
        Lee et al. 2018, penultimate features, without input perturbation. Own code: pytorch-ood 0.4 inverts the
        summed matrix in float32. Where ReLUs never fire, or features outnumber images, that inverse is made of
        rounding errors (digits, 1024 features of 603 images: negative "distances", AUROC .48 for .98). On regular
        features both rank alike.

    Example:
        Class means (0, 0) and (10, 0), covariance diag(4, 1), no ridge: (2, 3) scores 2^2 / 4 + 3^2 / 1 = 10.
    """

    ridge: float = 1e-6

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        labels = labels.to(features.device)
        classes = [c for c in labels.unique().tolist() if c >= 0]
        if not classes:
            raise InputError("the Mahalanobis detector needs labelled training images, and there are none")
        z = features.double()
        means = torch.stack([z[labels == c].mean(0) for c in classes])
        within = torch.cat([z[labels == c] - mean for c, mean in zip(classes, means, strict=True)])
        values, self._axes = principal_axes(within, "the Mahalanobis detector")
        # rounding may push an empty direction below 0
        self._lengths = (values.clamp_min(0) + self.ridge).sqrt()
        self._origin = means.mean(0)  # near the data: the distances are differences of small numbers
        self._means = self._whitened(means)
        return self

    def _whitened(self, z: Tensor) -> Tensor:
        """Return (n, k) coordinates whose squared distances are Mahalanobis distances."""
        centred = z - self._origin
        along = centred @ self._axes
        white = along / self._lengths
        if len(self._lengths) == z.shape[1]:
            return white
        outside = (
            centred - along @ self._axes.T
        )  # images were too few to reach there: its variance is the ridge
        return torch.cat([white, outside / self.ridge**0.5], dim=1)

    def score_features(self, features: Tensor) -> Tensor:
        def nearest(z: Tensor) -> Tensor:
            distances = torch.cdist(
                self._whitened(z), self._means, compute_mode="donot_use_mm_for_euclid_dist"
            )
            return distances.amin(1).square()

        return in_double(nearest, features)
