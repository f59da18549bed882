"""Histograms and ROC curves of the winner's outlier scores on the test sets, as numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_SETS = 12
BINS = 36
ROC_POINTS = 60
_DIGITS = 4

Curve = tuple[
    Sequence[float], Sequence[float]
]  # (shares of ID images flagged, shares of OOD images detected)


@dataclass(frozen=True)
class ScorePlot:
    """The outlier scores on one OOD set, beside those of the ID images; attacked ones are empty without an attack.

    Attributes:
        low, high: ends of the histograms, the same for every set; the first and last bin have what lies beyond.
        id, ood, attacked: share of the images in each bin.
        roc, roc_attacked: points of the curves.
        operating: (flagged, detected) where 95 % of the ID images are accepted, without and with the attack.
    """

    name: str
    label: str
    auroc: float
    auroc_attacked: float | None
    low: float
    high: float
    id: Sequence[float]
    ood: Sequence[float]
    attacked: Sequence[float]
    roc: Curve
    roc_attacked: Curve
    operating: Sequence[tuple[float, float]]


def score_plots(scores: Mapping[str, Any], label: Callable[[str], str]) -> list[ScorePlot]:
    """Return the plots of {"id" or OOD set or "SET attacked": scores}; [] without ID scores."""
    known = {name: _finite(values) for name, values in scores.items()}
    inliers = known.pop("id", np.empty(0))
    sets = [n for n, values in known.items() if not n.endswith(" attacked") and len(values)][:MOST_SETS]
    if not len(inliers) or not sets:
        return []
    low, high = map(float, np.percentile(np.concatenate([inliers, *(known[n] for n in sets)]), (0.2, 99.8)))
    high = high if high > low else low + 1
    plots = []
    for name in sets:
        clean, attacked = known[name], known.get(f"{name} attacked", np.empty(0))
        curves = [roc_curve(inliers, side) for side in (clean, attacked) if len(side)]
        plots.append(
            ScorePlot(
                name,
                label(name),
                round(auroc(inliers, clean), _DIGITS),
                round(auroc(inliers, attacked), _DIGITS) if len(attacked) else None,
                low,
                high,
                _histogram(inliers, low, high),
                _histogram(clean, low, high),
                _histogram(attacked, low, high),
                _thinned(curves[0]),
                _thinned(curves[1]) if len(attacked) else ((), ()),
                [_operating_point(curve) for curve in curves],
            )
        )
    return plots


def roc_curve(inliers: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (share of inliers, share of outliers) at or above each threshold, from none to all.

    Example:
        inliers 1, 2 and outliers 2, 3: thresholds 3, 2, 1 give (0, 1/2), (1/2, 1), (1, 1), after (0, 0).
    """
    thresholds = np.unique(np.concatenate([inliers, outliers]))[::-1]
    shares = [
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(side), thresholds, "left") / len(side)])
        for side in (inliers, outliers)
    ]
    return shares[0], shares[1]


def auroc(inliers: np.ndarray, outliers: np.ndarray) -> float:
    """Return the chance that an outlier scores above an inlier, ties half.

    Example:
        inliers 0, 1, 2 and outliers 1, 3: (1.5 + 3) / 6 = 0.75
    """
    ranked = np.sort(inliers)
    below = np.searchsorted(ranked, outliers, "left") + np.searchsorted(ranked, outliers, "right")
    return float(below.mean() / 2 / len(ranked))


def _operating_point(curve: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    at = int(np.searchsorted(curve[0], 0.05, side="right")) - 1  # the last that accepts 95 % of ID
    return round(float(curve[0][at]), _DIGITS), round(float(curve[1][at]), _DIGITS)


def _thinned(curve: tuple[np.ndarray, np.ndarray]) -> Curve:
    """Return about ROC_POINTS points of a curve, evenly along its length."""
    along = curve[0] + curve[1]  # from 0 to 2
    chosen = np.unique(np.searchsorted(along, np.linspace(0, 2, ROC_POINTS)).clip(0, len(along) - 1))
    return curve[0][chosen].round(_DIGITS).tolist(), curve[1][chosen].round(_DIGITS).tolist()


def _histogram(values: np.ndarray, low: float, high: float) -> list[float]:
    if not len(values):
        return []
    counts, _ = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    shares: list[float] = (counts / len(values)).round(_DIGITS).tolist()
    return shares


def _finite(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    kept: np.ndarray = array[np.isfinite(array)]
    return kept
