"""Metrics, values and time spans as reports and the console show them."""

import math
from collections.abc import Mapping
from typing import Any

from search_spaces.study import Floor
from trainables.base.errors import InputError
from trainables.evaluation.metrics.metric_family import Direction, Unit
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.analysis.results import Interval
from tuner.base.records import TrialRecord


def metric_label(metric: str) -> str:
    """Return a metric in words.

    Example:
        "test/robust_auroc_0.1/near" -> "robust AUROC (ε 0.1), near OOD"; "val/accuracy/clean" ->
        "validation clean accuracy".

    Raises:
        InputError: no spec has metrics of this name.
    """
    return find_metric(metric).label


def larger_is_better(metric: str) -> bool:
    """Return whether larger values are better; InputError for an unknown metric or a diagnostic."""
    direction = find_metric(metric).spec.direction
    if direction is Direction.NEITHER:
        raise InputError(f"{metric} is a diagnostic: it has no better and worse values to compare")
    return direction is Direction.MAXIMIZE


def shown_in_percent(metric: str) -> bool:
    """Return whether a metric is a fraction; those are shown as percentages."""
    return find_metric(metric).spec.unit is Unit.FRACTION


def value_text(metric: str, value: float | None) -> str:
    """Return a value as shown: "90.1 %" for fractions, four digits for the rest, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if shown_in_percent(metric) else f"{value:.4g}"


def interval_bounds(metric: str, interval: Interval) -> tuple[float, float]:
    """Return an interval's ends, cut off at the ends of the metric's range; NaN where there is no interval.

    The t-interval of a few seeds may leave the range; what lies outside cannot be.
    """
    spec = find_metric(metric).spec
    if not math.isfinite(interval.half):
        return math.nan, math.nan
    return max(interval.low, spec.low), min(interval.high, spec.high)


def interval_text(metric: str, interval: Interval) -> str:
    """Return "90.1 ± 1.7 %", or the mean alone where one seed gives no interval.

    Where the range of the metric cuts an interval off, its ends are given instead: "99.0 (97.5–100.0) %".
    """
    if not math.isfinite(interval.half):
        return value_text(metric, interval.mean)
    percent = shown_in_percent(metric)
    scale, digits, unit = (100, ".1f", " %") if percent else (1, ".4g", "")
    mean, ends = f"{scale * interval.mean:{digits}}", interval_bounds(metric, interval)
    cut = [
        round(scale * abs(end - own), 1) for end, own in zip(ends, (interval.low, interval.high), strict=True)
    ]
    if any(cut):  # by what is seen in print
        return f"{mean} ({'–'.join(f'{scale * end:{digits}}' for end in ends)}){unit}"
    return f"{mean} ± {scale * interval.half:{digits if percent else '.2g'}}{unit}"


def difference_text(metric: str, difference: Interval) -> str:
    """Return "+5.3 ± 2.1 points"; points are percentage points."""
    if not math.isfinite(difference.mean):
        return "-"
    scale, digits, unit = (100, "+.1f", " points") if shown_in_percent(metric) else (1, "+.4g", "")
    half = f" ± {scale * difference.half:{digits[1:]}}" if math.isfinite(difference.half) else ""
    return f"{scale * difference.mean:{digits}}{half}{unit}"


def floor_text(floor: Floor, reference: Mapping[str, float]) -> str:
    """Return a floor in words: "validation clean accuracy at least 97.3 % (1 point below the pretrained classifier)".

    Args:
        reference: the pretrained classifier's validation metrics.
    """
    label, below = metric_label(floor.metric), floor.below_reference
    if below is None:
        return f"{label} at least {value_text(floor.metric, floor.at_least)}"
    points = (
        f"{100 * below:g} point{'' if below == 0.01 else 's'}"
        if shown_in_percent(floor.metric)
        else f"{below:g}"
    )
    own = reference.get(floor.metric)
    if own is None:
        return f"{label} at most {points} below the pretrained classifier's"
    return f"{label} at least {value_text(floor.metric, own - below)} ({points} below the pretrained classifier's)"


def setting_text(value: Any) -> str:
    """Return a parameter's value with at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_text(record: TrialRecord) -> str:
    """Return the searched parameters of a trial: "lr=0.001, outliers.sigma=2"."""
    return ", ".join(f"{key}={setting_text(value)}" for key, value in record.params.items())


def duration(seconds: float) -> str:
    """Return a time span: "12.3 s", "4 min 05 s", "3 h 12 min"."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
