"""OOD metrics of each OOD set, computed from the outlier scores, and their means over groups of sets."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from trainables.base.own_specs import short_name
from trainables.evaluation.metrics import ood_metrics as ood

Metrics = dict[str, float]
ScoresBySet = dict[str, np.ndarray]  #: {OOD set, or "id" for the ID images: (n,) float64}
Groups = Mapping[str, list[str]]  #: {group: its OOD sets}


def metrics_per_set(
    scores: Mapping[str, np.ndarray], functions: Mapping[str, Callable[..., float]]
) -> Metrics:
    """Return {"<metric>/<OOD set>": value}."""
    return {
        f"{metric}/{name}": function(scores["id"], values, name)
        for name, values in scores.items()
        if name != "id"
        for metric, function in functions.items()
    }


def group_means(by_set: Metrics, groups: Groups) -> Metrics:
    """Return {"<metric>/<group>": mean over the sets of the group}, each set weighing the same."""
    kinds = dict.fromkeys(name.split("/")[0] for name in by_set)
    return {
        f"{metric}/{group}": mean(by_set[f"{metric}/{name}"] for name in names)
        for metric in kinds
        for group, names in groups.items()
        if names
    }


def named_by_score(score: str, by_set: Metrics, groups: Groups) -> Metrics:
    """Return {"<score>/<metric>/<OOD set or group>": value} of a score or detector."""
    return {
        f"{short_name(score)}/{name}": value for name, value in (by_set | group_means(by_set, groups)).items()
    }


def ood_metrics_of_score(score: str, scores: Mapping[str, np.ndarray], groups: Groups) -> Metrics:
    """Return `named_by_score` of every OOD metric, computed from the scores."""
    return named_by_score(score, metrics_per_set(scores, ood.OOD_METRICS), groups)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
