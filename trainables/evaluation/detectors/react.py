"""ReAct: energy of features that are cut off at a quantile."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from trainables.evaluation.detectors.base import FeatureDetector


@dataclass
class React(FeatureDetector):
    """ReAct: the energy after the features were cut off at a quantile of all training features.

    Source:
        Sun et al. 2021; pytorch-ood 0.4.
    """

    quantile: float = 0.9

    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        from pytorch_ood.detector import ReAct

        self._library = ReAct(backbone=nn.Identity(), head=head, percentile=self.quantile)
        self._library.fit_feature_maps(features, labels.to(features.device))
        self.threshold = float(self._library.threshold)
        return self

    def score_features(self, features: Tensor) -> Tensor:
        scores: Tensor = self._library.predict_feature_maps(features)
        return scores.double().cpu()
