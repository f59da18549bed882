"""ASH: energy of features of which the smallest are set to 0."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from trainables.base.errors import InputError, unknown
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.metrics.scores import energy


@dataclass
class Ash(FeatureDetector):
    """ASH: the energy after each image's smallest features were set to 0 and the others rescaled.

    Attributes:
        percentile: the share of the features that is set to 0.
        variant: "ash-s" scales by exp(sum before / sum after), "ash-p" by nothing, "ash-b" makes what is left equal.

    Source:
        Djurisic et al. 2023; pytorch-ood 0.4, on pooled features. What differs: where all features of an image are 0,
        the sums' ratio is 0 / 0 and the library's score NaN; such an image is scored as it is.
    """

    percentile: float = 0.65
    variant: str = "ash-s"

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        from pytorch_ood.detector import ASH

        if self.variant not in ASH.variants:
            raise InputError(unknown("variant of ASH", self.variant, ASH.variants))
        self._head = lambda z: head(z.flatten(1))  # the library wants maps; pooled ones are 1 x 1
        self._library = ASH(nn.Identity(), self._head, self.variant, self.percentile)
        return self

    @torch.no_grad()
    def score_features(self, features: Tensor) -> Tensor:
        shaped: Tensor = self._library.predict_feature_maps(features[:, :, None, None])
        silent = (features == 0).all(1)
        return torch.where(silent, energy(self._head(features)), shaped).double().cpu()
