"""Calibration of a classifier: reliability bins, the expected calibration error, the temperature of the softmax."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.base.errors import InputError
from trainables.evaluation.metrics.ood_metrics import MetricInputError

BINS = 15  # Guo et al. 2017
_LARGEST = 1000.0  # of a temperature and of its inverse


@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows; bin i holds the confidences in (edges[i], edges[i + 1]].

    Attributes:
        edges: (bins + 1,) from 0 to 1, equally spaced.
        count: (bins,) images in each bin; they add up to all images.
        confidence: (bins,) mean confidence of each bin, NaN where it is empty.
        accuracy: (bins,) share of right predictions of each bin, NaN where it is empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """(bins,) accuracy minus confidence; negative = too sure of itself; 0 where a bin is empty."""
        gaps: np.ndarray = np.where(self.count > 0, self.accuracy - self.confidence, 0.0)
        return gaps

    @property
    def ece(self) -> float:
        """The expected calibration error in [0, 1]: the mean |gap|, each bin weighing as many images as it has."""
        return float(np.sum(np.abs(self.gaps) * self.count) / self.count.sum())

    @property
    def largest_gap(self) -> float:
        """The largest |gap| of any bin with an image, in [0, 1] (elsewhere called MCE, here mCE is another thing)."""
        return float(np.abs(self.gaps).max())


def reliability(confidences: np.ndarray, right: np.ndarray, bins: int = BINS, name: str = "") -> Reliability:
    """Sort predictions into equally wide bins by their confidence.

    Every prediction is in exactly one bin: a confidence of exactly 1, the usual one of an overconfident network in
    float32, is in the last, one of 0 in the first.

    Args:
        confidences: (n,) in [0, 1], the probability of the predicted class.
        right: (n,) bool.
        name: the set, for error messages.

    Raises:
        MetricInputError: no predictions, shapes that differ, or a confidence outside [0, 1] or NaN.
        InputError: less than one bin.

    Source:
        Naeini et al. 2015; Guo et al. 2017, whose bins are open on the left. torchmetrics 1.9 opens them on the right
        and gives confidences of exactly 1 a bin of their own, which makes another number where there are any.

    Example:
        Two bins; confidences 0.5 (wrong), 0.6 (right), 1 (right), 1 (wrong). First bin: accuracy 0, confidence 0.5;
        last: accuracy 2/3, confidence 2.6/3. ECE = 1/4 * 0.5 + 3/4 * 0.2 = 0.275.
    """
    p = np.asarray(confidences, dtype=np.float64)
    hits = np.asarray(right, dtype=bool)
    of = f" of {name}" if name else ""
    if bins < 1:
        raise InputError(f"a reliability diagram needs 1 bin or more, not {bins}")
    if p.ndim != 1 or p.shape != hits.shape or not p.size:
        raise MetricInputError(
            f"calibration{of}: {p.shape} confidences for {hits.shape} verdicts; want (n,), n > 0"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise MetricInputError(f"calibration{of}: confidences run from {p.min()} to {p.max()}; want [0, 1]")
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, weights=p, minlength=bins) / count
        accuracy = np.bincount(index, weights=hits, minlength=bins) / count
    return Reliability(edges, count, confidence, accuracy)


def calibration(logits: Tensor, labels: np.ndarray | Tensor, bins: int = BINS, name: str = "") -> Reliability:
    """Return the reliability of the softmax of logits.

    The softmax is taken in float64: in float32 it rounds to 1 from a margin of about 17 on.

    Args:
        logits: (n, classes).
        labels: (n,) the classes.

    Raises:
        MetricInputError: as in `reliability`; logits that are NaN give confidences that are.
    """
    p, predicted = torch.softmax(logits.detach().double().cpu(), 1).max(1)
    right = predicted.numpy() == np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    return reliability(p.numpy(), right, bins, name)


def fit_temperature(logits: Tensor, labels: np.ndarray | Tensor) -> float:
    """Return the T > 0 that makes softmax(logits / T) most likely for the labels; 1 where there is no such T.

    The mean negative log-likelihood is convex in 1 / T; its slope, the mean of E_p[logit] - logit of the class, is
    brought to 0 by bisection. Without a single wrong prediction the likelihood grows for ever as T falls, and images
    that were all classified rightly do not tell how sure to be: T is 1 then.

    Args:
        logits: (n, classes) of images that were not trained on.
        labels: (n,) the classes.

    Raises:
        MetricInputError: no images, shapes that differ, or logits that are not finite.

    Source:
        Guo et al. 2017, temperature scaling.

    Example:
        Logits (a, 0), three of four times the first class: p must be 3/4, so a / T = log 3 and T = a / log 3.
    """
    z = logits.detach().double().cpu()
    y = torch.as_tensor(labels).cpu()
    if z.ndim != 2 or y.shape != z.shape[:1] or not len(z) or not torch.isfinite(z).all():
        raise MetricInputError(
            f"temperature: logits {tuple(z.shape)}, labels {tuple(y.shape)}; want finite (n, classes) and (n,), n > 0"
        )
    own = z.gather(1, y[:, None])[:, 0]
    if not (own < z.amax(1)).any():
        return 1.0

    def slope(inverse: float) -> float:
        return float(((inverse * z).softmax(1) * z).sum(1).sub(own).mean())

    low, high = 1 / _LARGEST, _LARGEST
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)
