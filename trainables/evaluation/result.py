"""`Evaluation`: the results of the final evaluation of one classifier. No torch: the driver takes them as they are."""

from dataclasses import dataclass, field

import numpy as np

from trainables.evaluation.metrics.metrics_per_set import Metrics, ScoresBySet


@dataclass
class Evaluation:
    """The results of the final evaluation of one classifier.

    Attributes:
        metrics: {"test/<metric>": value}; percentages as fractions.
        scores: {OOD set name, or "id" for the test images: (n,) float64 primary outlier scores}.
        attacked_scores: {epsilon as metric names write it: {OOD set name: (n,) primary scores under attack,
            "id": clean scores of the test images, "id attacked": those under attack}}, as far as measured.
        remarks: notes that belong to the metrics, one line each: attacks that are not reliable, detectors that do
            not suit the network.
    """

    metrics: Metrics
    scores: ScoresBySet = field(default_factory=dict)
    attacked_scores: dict[str, ScoresBySet] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def scores_to_store(self) -> dict[str, np.ndarray]:
        """Return the outlier scores that a run stores: {set: scores}, attacked ones as "<set> attacked"."""
        scores = dict(self.scores)
        for by_set in list(self.attacked_scores.values())[:1]:  # the first epsilon is the main one
            scores |= {
                name if name == "id attacked" else f"{name} attacked": values
                for name, values in by_set.items()
                if name != "id"
            }
        return scores
