"""From outlier scores by set to metrics by set, and their means over near and far sets."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from trainables.evaluation.metrics import ood_metrics as ood

Metrics = dict[str, float]
ScoresBySet = dict[str, np.ndarray]  #: {OOD set, or "id" for the ID images: (n,) float64}
Groups = Mapping[str, list[str]]  #: {group: its OOD sets}


def per_set(scores: Mapping[str, np.ndarray], functions: Mapping[str, Callable[..., float]]) -> Metrics:
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


def beside(score: str, by_set: Metrics, groups: Groups) -> Metrics:
    """Return the group means (and the unknown classes, where there are any) of one more score or detector."""
    found = group_means(by_set, groups)
    found |= {name: value for name, value in by_set.items() if name.endswith("/unknown")}
    return {f"{score}/{name}": value for name, value in found.items()}


def metrics_beside(score: str, scores: Mapping[str, np.ndarray], groups: Groups) -> Metrics:
    """Return `beside` of every OOD metric."""
    return beside(score, per_set(scores, ood.OOD_METRICS), groups)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
