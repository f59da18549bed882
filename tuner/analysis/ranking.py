"""How well validation ranked the evaluated trials of a search: against the claim's metric on the test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.metric_text import difference_text, larger_is_better, metric_label
from tuner.analysis.results import StudyResult, interval
from tuner.analysis.selection import cost_of
from tuner.analysis.verdict import claim_metric


@dataclass(frozen=True)
class Ranking:
    """The first objective beside the claim's test metric, over the trials that could win and were evaluated.

    Attributes:
        correlation: Spearman's, better with better; NaN for fewer than two trials, or if all are alike.
        low, high: 95 % interval of it (Bonett and Wright 2000, Psychometrika 65); NaN for fewer than four trials.
        n: trials behind it.
        regret: by how much the winner is worse than the best of them in the test metric, >= 0; NaN without a winner.
        best: number of that best trial, -1 if there is none.
    """

    correlation: float
    low: float
    high: float
    n: int
    regret: float
    best: int

    @property
    def text(self) -> str:
        """Return "0.92 (0.71 to 0.98)", without an interval where there is none."""
        correlation, low, high = (f"{round(x, 2) + 0.0:.2f}" for x in (self.correlation, self.low, self.high))
        return f"{correlation} ({low} to {high})" if math.isfinite(self.low) else correlation


def ranking(result: StudyResult) -> Ranking:
    """Return how the search's feasible, complete trials that have been evaluated are ranked by validation and test."""
    metric, objective = claim_metric(result.plan), result.plan.objectives[0]
    sign = -1 if larger_is_better(metric) else 1
    costs = {
        record.number: (cost_of(record, objective), sign * result.tests[record.key][metric])
        for record in result.lane("search")
        if record.key in result.feasible and metric in result.tests.get(record.key, {})
    }
    costs = {number: pair for number, pair in costs.items() if all(map(math.isfinite, pair))}
    correlation = _spearman(list(costs.values()))
    low, high = interval_of(correlation, len(costs))
    best = min(costs, key=lambda number: (costs[number][1], number), default=-1)
    own = costs.get(result.best.number) if result.best else None
    regret = own[1] - costs[best][1] if own else math.nan
    return Ranking(correlation, low, high, len(costs), regret, best)


def regret_text(result: StudyResult, found: Ranking) -> str:
    """Return a sentence on what the winner lost against the best evaluated trial; "" without a winner that was one."""
    if not math.isfinite(found.regret):
        return ""
    metric = claim_metric(result.plan)
    label = metric_label(metric)
    if found.regret == 0:
        return f"The winner is the best of them in {label}."
    lost = difference_text(metric, interval([found.regret])).lstrip("+")
    return f"The winner is {lost} worse in {label} than the best of them, trial {found.best}."


def interval_of(correlation: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Spearman's correlation of n pairs, by Fisher's transformation.

    Source:
        Bonett and Wright 2000: the variance of the transformed value is (1 + r^2 / 2) / (n - 3).

    Example:
        0.5 of 28: (0.13, 0.75)
    """
    if n < 4 or not abs(correlation) < 1:
        return math.nan, math.nan
    half = 1.959964 * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    middle = math.atanh(correlation)
    return math.tanh(middle - half), math.tanh(middle + half)


def _spearman(pairs: Sequence[tuple[float, float]]) -> float:
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return math.nan
    from scipy import stats

    return float(stats.spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
