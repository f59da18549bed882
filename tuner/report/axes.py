"""Axes: where a value stands between the ends of a parameter's range or of a metric's values, and the ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search_spaces.domain import Choice, Domain, Int
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.analysis.metric_text import metric_label, setting_text, shown_in_percent

#: of the trials that are shown, beyond which few may lie outside of the axis of a metric
_MANY = 20
_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """One axis of plots and columns.

    Attributes:
        label: in words.
        low, high: its ends; the places of the first and the last option of a choice are inside them.
        log: logarithmic.
        options: of a choice, as text.
        percent: values are fractions, shown as percentages.
        ticks: [(place in [0, 1], text)].
    """

    label: str
    low: float
    high: float
    log: bool = False
    options: tuple[str, ...] = ()
    percent: bool = False
    ticks: tuple[tuple[float, str], ...] = field(default=())

    def place(self, value: Any) -> float | None:
        """Return where a value stands, 0 at the low end, 1 at the high end, at most a little outside; None for none.

        Example:
            0.1 on a logarithmic axis from 0.01 to 1: 0.5; the second of four options: 0.375
        """
        if value is None:
            return None
        if self.options:
            return (
                (self.options.index(str(value)) + 0.5) / len(self.options)
                if str(value) in self.options
                else None
            )
        if not isinstance(value, (int, float)) or not math.isfinite(value) or (self.log and value <= 0):
            return None
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, float(value)))
        return min(max((at - low) / (high - low), -0.02), 1.02)

    def text(self, value: Any) -> str:
        """Return a value as it is shown: "90.1 %" on an axis of percentages, else with four digits."""
        return f"{100 * value:.1f} %" if self.percent else setting_text(value)


def parameter_axis(name: str, domain: Domain) -> Axis:
    """Return the axis of a searched parameter over its whole range."""
    if isinstance(domain, Choice):
        options = tuple(map(str, domain.options))
        ticks = tuple(((i + 0.5) / len(options), text) for i, text in enumerate(options))
        return Axis(name, 0, len(options), options=options, ticks=ticks)
    axis = Axis(name, float(domain.low), float(domain.high), domain.log)
    values = _log_ticks(axis.low, axis.high) if domain.log else nice_ticks(axis.low, axis.high, _TICKS)
    if isinstance(domain, Int):
        values = sorted({round(v) for v in values if axis.low <= round(v) <= axis.high})
    return with_ticks(axis, values)


def metric_axis(metric: str, values: Sequence[float], keep: Sequence[float] = ()) -> Axis:
    """Return the axis of a metric's values; of many values a few odd ones do not squash the rest.

    Args:
        keep: values that must be inside.
    """
    known = np.array([v for v in values if math.isfinite(v)], dtype=float)
    spec = find_metric(metric).spec
    if not len(known):
        known = np.array([max(spec.low, 0.0), min(spec.high, 1.0)])
    low, high = float(known.min()), float(known.max())
    if len(known) >= _MANY:
        first, last = np.percentile(known, (10, 90))
        low, high = max(low, float(first - (last - first))), min(high, float(last + (last - first)))
    kept = [v for v in keep if math.isfinite(v)]
    return span_axis(metric, min([low, *kept]), max([high, *kept]))


def span_axis(metric: str, low: float, high: float, ticks: int = _TICKS) -> Axis:
    """Return a metric's axis from `low` to `high` with a little room, inside the metric's range."""
    spec = find_metric(metric).spec
    room = 0.04 * (high - low) or 0.01 * max(abs(high), 0.1)
    low, high = max(low - room, spec.low), min(high + room, spec.high)
    if not low < high:
        low, high = low - room, high + room
    percent = shown_in_percent(metric)
    axis = Axis(metric_label(metric), low, high, percent=percent)
    scale = 100 if percent else 1
    return with_ticks(axis, [v / scale for v in nice_ticks(scale * low, scale * high, ticks)])


def count_axis(label: str, low: float, high: float) -> Axis:
    """Return an axis of whole numbers, such as epochs."""
    values = [v for v in nice_ticks(low, high, _TICKS) if v == round(v)]
    return with_ticks(Axis(label, low, high if high > low else low + 1), values)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` + 1 round values in [low, high].

    Example:
        (0, 1, 5): 0, 0.2, 0.4, 0.6, 0.8, 1; (0.72, 0.93, 5): 0.75, 0.8, 0.85, 0.9
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high * (1 + 1e-9)]
        if len(found) <= _TICKS + 1:
            break
    step = -(-len(found) // (_TICKS + 1)) or 1
    return found[::step] if len(found) > 1 else [low, high]


def with_ticks(axis: Axis, values: Sequence[float]) -> Axis:
    """Return an axis with these values for ticks."""
    placed = [(axis.place(v), f"{100 * v:.4g} %" if axis.percent else f"{v:.4g}") for v in values]
    ticks = tuple((round(place, 4), text) for place, text in placed if place is not None)
    return Axis(axis.label, axis.low, axis.high, axis.log, axis.options, axis.percent, ticks)
