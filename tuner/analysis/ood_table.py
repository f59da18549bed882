"""What was measured of every arm, outlier score and OOD set: the rows of the tables that papers print."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainables.evaluation.metrics.metric_family import MEANS
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.analysis.results import ArmResult, Interval, StudyResult


@dataclass(frozen=True)
class OodRow:
    """One arm's detection of one OOD set by one score.

    Attributes:
        score: an outlier score or detector.
        where: the OOD set, or "near" and "far" for the means over them.
        values: {kind of metric, such as "auroc" or "robust_auroc_0.1": over the seeds}.
    """

    arm: ArmResult
    score: str
    where: str
    values: Mapping[str, Interval] = field(default_factory=dict)


def ood_rows(result: StudyResult) -> list[OodRow]:
    """Return the rows of every arm, of the winner's single run where no arm was trained.

    The study's own score comes first, sets in the order in which they were measured, means last.
    """
    own = result.plan.test_protocol().score
    found: dict[tuple[str, str, str], dict[str, Interval]] = {}
    arms = {arm.name: arm for arm in result.measured_arms}
    for arm in arms.values():
        for name in arm.values:
            metric = find_metric(name)
            where = metric.parameters.get("set")
            interval = arm.seed_interval(name)
            if where is None or not interval.n:
                continue
            kind = name.removeprefix("test/").removesuffix(f"/{where}")
            score = metric.parameters.get("score", "")
            kind = kind.removeprefix(f"{score}/") if score else kind
            found.setdefault((arm.name, score or own, where), {}).setdefault(kind, interval)
    scores = list(dict.fromkeys((own, *(score for _, score, _ in found))))
    names = list(arms)
    keys = sorted(found, key=lambda key: (names.index(key[0]), scores.index(key[1]), key[2] in MEANS))
    return [OodRow(arms[arm], score, where, found[arm, score, where]) for arm, score, where in keys]


def kinds_of(rows: Iterable[OodRow]) -> list[str]:
    """Return the kinds of metrics that rows have, in the order of their appearance."""
    return list(dict.fromkeys(kind for row in rows for kind in row.values))
