"""Ranks of methods in a metric, as far as their fresh seeds show them: Holm's test of all pairs, paired by seed."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.metric_text import larger_is_better
from tuner.analysis.results import ArmResult, StudyResult
from tuner.analysis.verdict import paired_differences
from tuner.planning.plan import Plan

LEVEL = 0.05
FEWEST = 3  # methods for which ranks say more than the verdict does


@dataclass(frozen=True)
class Rank:
    """The ranks that a method may have, the first and the last; equal ends are a rank that is shown.

    Attributes:
        better, worse: how many methods it is shown to be better and worse than.
        of: methods in all.
    """

    better: int
    worse: int
    of: int

    @property
    def first(self) -> int:
        return 1 + self.worse

    @property
    def last(self) -> int:
        return self.of - self.better

    @property
    def net(self) -> float:
        """Return the share of the other methods that it beats minus the share that beats it, in [-1, 1]."""
        return (self.better - self.worse) / max(1, self.of - 1)

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}–{self.last}"


def methods(result: StudyResult) -> list[ArmResult]:
    """Return the winner and the arms that were tuned by a search of their own; [] if those are fewer than FEWEST."""
    lanes = {lane.name for lane in result.plan.lanes}
    tuned = [arm for arm in result.arms if arm.name == "best" or arm.name in lanes]
    return tuned if len(tuned) >= FEWEST else []


def method_label(plan: Plan, arm: ArmResult) -> str:
    return f"{plan.method} (the study's own)" if arm.name == "best" else arm.name


def ranks(arms: Sequence[ArmResult], metric: str) -> Mapping[str, Rank]:
    """Return {arm: its rank} of the arms that have the metric; arms that cannot be told apart share ranks.

    Two arms differ if the paired t-test over their seeds rejects equal means, at a level of 5 % for all pairs of
    this metric together. A seed without a finite value drops out of its pairs.

    Example:
        a is shown better than b and c, which are not told apart: a 1, b and c 2–3

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    measured = [arm for arm in arms if arm.seed_interval(metric).n]
    pairs = list(itertools.combinations(measured, 2))
    tests = [_paired_test(a, b, metric) for a, b in pairs]
    shown = holm([p for _, p in tests])
    sign = 1 if larger_is_better(metric) else -1
    better, worse = dict.fromkeys((a.name for a in measured), 0), dict.fromkeys((a.name for a in measured), 0)
    for (a, b), (mean, _), differs in zip(pairs, tests, shown, strict=True):
        if differs:
            ahead, behind = (a, b) if sign * mean > 0 else (b, a)
            better[ahead.name] += 1
            worse[behind.name] += 1
    return {a.name: Rank(better[a.name], worse[a.name], len(measured)) for a in measured}


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects.

    Example:
        0.01, 0.04, 0.03 at 0.05: 0.01 <= 0.05/3 is rejected; 0.03 > 0.05/2 is not, nor is what comes after it
    """
    rejected = [False] * len(p_values)
    for k, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not p_values[i] <= level / (len(p_values) - k):
            break
        rejected[i] = True
    return rejected


def _paired_test(a: ArmResult, b: ArmResult, metric: str) -> tuple[float, float]:
    """Return the mean difference and the p-value of the paired t-test; 1 with fewer than two pairs."""
    d = paired_differences(a.values[metric], b.values[metric])
    if len(d) < 2:
        return math.nan, 1.0
    mean = sum(d) / len(d)
    if len(set(d)) == 1:
        return mean, 0.0 if mean else 1.0
    from scipy import stats

    return mean, float(stats.ttest_1samp(d, 0.0).pvalue)
