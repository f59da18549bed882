"""OOD-detection metrics from two samples of outlier scores. Higher = more OOD; OOD is the positive class.

Scores may be any real numbers, infinities included. Only their order counts, and ties are never broken by
position: a constant score has an AUROC of 1/2 and the worst FPR95 of 1, so that it cannot win a search.

Every function raises MetricInputError for an empty side, a shape other than (n,) or a NaN.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


class MetricInputError(ValueError):
    """Scores from which no metric can be computed; the message names the side (and the set, where known)."""


def auroc(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> float:
    """Return the probability that an OOD score exceeds an ID score; a tie counts one half.

    Args:
        scores_id: (n,).
        scores_ood: (m,).
        name: the OOD set, for error messages.

    Returns:
        Area under the ROC curve in [0, 1]; the Mann-Whitney statistic divided by n m.

    Example:
        ID 1, 2 and OOD 2, 3: of four pairs three are in order and one ties, so 3.5 / 4.
    """
    inside, outside = _check(scores_id, scores_ood, name)
    inside = np.sort(inside)
    below = np.searchsorted(inside, outside, side="left").sum()
    not_above = np.searchsorted(inside, outside, side="right").sum()
    return float((below + not_above) / (2 * len(inside) * len(outside)))


def aupr_out(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> float:
    """Return the average precision with OOD positive, in [0, 1]; it depends on the ratio of the two counts.

    Average precision (the sum of precision times the step in recall, tied scores entering together), not the
    trapezoid area, which interpolates too favourably.
    """
    inside, outside = _check(scores_id, scores_ood, name)
    return _average_precision(outside, inside)


def aupr_in(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> float:
    """Return the average precision with ID positive, ranked by minus the score; see `aupr_out`."""
    inside, outside = _check(scores_id, scores_ood, name)
    return _average_precision(-inside, -outside)


def fpr95_id_pos(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> float:
    """Return the share of OOD images accepted at the lowest threshold that accepts 95 % of ID.

    An image is accepted if its score is at most the threshold, so ties count as accepted.

    Source:
        The convention of ODIN and Liu et al. 2020 (energy); theirs takes the threshold of nearest recall,
        ours the first that reaches 95 %.

    Example:
        ID 1, 2, 3 and OOD 2, 3, 4: all of ID must be accepted (2 of 3 are fewer than 95 %), the threshold is
        3, and 2 of 3 OOD images pass it.
    """
    _, outside = _check(scores_id, scores_ood, name)
    return float(np.mean(outside <= threshold95(scores_id, name)))


def threshold95(scores_id: ArrayLike, name: str = "") -> float:
    """Return the lowest threshold that accepts 95 % of ID images: those whose score is at most the threshold.

    Example:
        Of 20 images 19 must be accepted: the threshold is the second largest score.
    """
    inside = _checked("ID", scores_id, name)
    return float(np.sort(inside)[_count95(len(inside)) - 1])


def fpr95_ood_pos(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> float:
    """Return the share of ID images flagged at the highest threshold that flags 95 % of OOD.

    An image is flagged if its score is at least the threshold, so ties count as flagged.

    Source:
        The convention of Hendrycks et al. 2019 (outlier exposure), pytorch-ood and OpenOOD.

    Example:
        ID 1, 2, 3 and OOD 2, 3, 4: all of OOD must be flagged, the threshold is 2, and 2 of 3 ID images
        reach it.
    """
    inside, outside = _check(scores_id, scores_ood, name)
    return float(np.mean(inside >= np.sort(outside)[len(outside) - _count95(len(outside))]))


#: {name in reports: function(scores_id, scores_ood, name) -> float}.
OOD_METRICS = {
    "auroc": auroc,
    "aupr_in": aupr_in,
    "aupr_out": aupr_out,
    "fpr95_id_pos": fpr95_id_pos,
    "fpr95_ood_pos": fpr95_ood_pos,
}


def ood_metrics(scores_id: ArrayLike, scores_ood: ArrayLike, name: str = "") -> dict[str, float]:
    """Return every metric of `OOD_METRICS` by name."""
    return {metric: function(scores_id, scores_ood, name) for metric, function in OOD_METRICS.items()}


def accuracy(predictions: ArrayLike, labels: ArrayLike, name: str = "") -> float:
    """Return the share of equal entries of two (n,) arrays of classes, in [0, 1]."""
    predicted, true = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != true.shape or predicted.ndim != 1 or not len(true):
        raise MetricInputError(
            f"accuracy{_of(name)}: {predicted.shape} predictions for {true.shape} labels; want (n,), n > 0"
        )
    return float(np.mean(predicted == true))


def _average_precision(positive: Scores, negative: Scores) -> float:
    scores = np.concatenate([positive, negative])
    is_positive = np.arange(len(scores)) < len(positive)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_positive[order])
    # not np.diff: the difference of two infinities is NaN
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last of each group of ties
    recalled = np.diff(hits[last], prepend=0)
    return float(np.sum(recalled / len(positive) * hits[last] / (last + 1)))


def _count95(n: int) -> int:
    """Return the least k with k / n >= 0.95, in integers: 0.95 * n may round to either side."""
    return -(-95 * n // 100)


def _check(scores_id: ArrayLike, scores_ood: ArrayLike, name: str) -> tuple[Scores, Scores]:
    return _checked("ID", scores_id, name), _checked("OOD", scores_ood, name)


def _checked(side: str, scores: ArrayLike, name: str) -> Scores:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise MetricInputError(f"{side} scores{_of(name)} have shape {array.shape}; want (n,) with n > 0")
    if np.isnan(array).any():
        raise MetricInputError(f"{side} scores{_of(name)}: {np.isnan(array).sum()} of {len(array)} are NaN")
    return array


def _of(name: str) -> str:
    return f" of {name}" if name else ""
