"""Decides whether a study's new model takes the alias `champion` from the one that has it. Imports no mlflow."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tuner.analysis.metric_text import interval_text, larger_is_better, metric_label
from tuner.analysis.results import Interval

ALIAS = "champion"
_PREFIX = "confirmed_"


@dataclass(frozen=True)
class Standing:
    """How a model's configuration did in the confirm stage.

    Attributes:
        metric: the claim's test metric.
        mean, half, seeds: over fresh seeds, with half the width of the 95 % interval; NaN without two seeds.
        data: hash of the data set's content, tests included; "" where it is not known.
        protocol: hash of how it was measured.
    """

    metric: str
    mean: float
    half: float
    seeds: int
    data: str
    protocol: str

    @property
    def confirmed(self) -> bool:
        """Return whether there is an interval."""
        return math.isfinite(self.mean) and math.isfinite(self.half)

    @property
    def interval(self) -> Interval:
        return Interval(self.mean, self.half, self.seeds)

    def as_tags(self) -> dict[str, str]:
        """Return the tags of a model version."""
        return {f"{_PREFIX}{key}": str(value) for key, value in asdict(self).items()}


def standing_of(tags: Mapping[str, str]) -> Standing | None:
    """Return what a model version's tags say, None if an earlier version of this program or a user wrote it."""
    try:
        own = {key: tags[f"{_PREFIX}{key}"] for key in Standing.__dataclass_fields__}
        return Standing(
            own["metric"],
            float(own["mean"]),
            float(own["half"]),
            int(own["seeds"]),
            own["data"],
            own["protocol"],
        )
    except (KeyError, ValueError):
        return None


def reason_to_stay(new: Standing, holder: Standing | None) -> str:
    """Return why the alias stays with its holder, "" if the new model takes it.

    It moves to a confirmed result from one that is not confirmed, and from a confirmed one if both were measured
    alike on the same data and the new interval lies wholly on the better side of the old one.

    Args:
        holder: None where nothing is known of it.
    """
    if not new.confirmed:
        return "this result has no confidence interval (confirm it with two seeds or more)"
    if holder is None:
        return "how its result was confirmed is not known"
    if not holder.confirmed:
        return ""
    if holder.metric != new.metric:
        return f"it was chosen by {metric_label(holder.metric)}, this one by {metric_label(new.metric)}"
    if not new.data or holder.data != new.data:
        return "it was measured on other data"
    if holder.protocol != new.protocol:
        return "it was measured by another protocol"
    better = new.interval.low > holder.interval.high
    if not larger_is_better(new.metric):
        better = new.interval.high < holder.interval.low
    if better:
        return ""
    ours, theirs = interval_text(new.metric, new.interval), interval_text(new.metric, holder.interval)
    return f"{metric_label(new.metric)} {ours} is not clearly better than its {theirs}"
