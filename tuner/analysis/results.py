"""Results of a study as values: arms, intervals over seeds, and everything that console and report show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.base.records import State, TrialRecord
from tuner.planning.plan import Plan


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval over seeds (Student's t).

    Attributes:
        half: half the interval's width; NaN with fewer than two values.
    """

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def is_apart_from(self, other: "Interval") -> bool:
        """Return whether the two do not overlap; False where one has no width."""
        return self.low > other.high or self.high < other.low


def interval(values: Sequence[float]) -> Interval:
    """Return mean and 95 % t-interval of independent values.

    Example:
        (1, 2, 3): mean 2, standard error 1/sqrt(3), t(.975, 2) = 4.3027, half = 2.4842
    """
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes a second to import

    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, 0)
    mean = sum(values) / n
    if n == 1:
        return Interval(mean, math.nan, 1)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return Interval(mean, float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n), n)


@dataclass(frozen=True)
class ArmResult:
    """One arm of the confirm stage over the fresh seeds.

    Attributes:
        name: "best" is the search's winner.
        values: {test metric: [value per seed, in the order of the seeds]}.
        seconds: of training and validation, mean over the seeds.
        seeds: of the trainings; () where they are not known.
        epochs: that the trainings are judged by, where that is their best; else ().
        after_last: `values` after the last epoch instead; {} where trainings are judged by it anyway.
    """

    name: str
    role: str
    about: str
    configuration: Mapping[str, Any]
    values: Mapping[str, Sequence[float]]
    seconds: float = 0.0
    seeds: Sequence[int] = ()
    epochs: Sequence[int] = ()
    after_last: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return "winner" if self.name == "best" else self.name

    def seed_interval(self, metric: str) -> Interval:
        """Return the interval over the seeds that have a finite value; a failed seed shows in n."""
        return interval([v for v in self.values.get(metric, ()) if math.isfinite(v)])


@dataclass(frozen=True)
class Comparison:
    """The winner against one arm in one metric, seed by seed.

    Attributes:
        difference: winner minus arm, paired by seed.
        separated: the two arms' own intervals do not overlap.
    """

    arm: str
    metric: str
    difference: Interval
    separated: bool


@dataclass(frozen=True)
class StudyResult:
    """Everything the report shows.

    Attributes:
        records: every trial of the searches; `lane == "search"` is the study's own.
        tests: {trial key: {"test/...": value}} of the evaluated trials.
        remarks: {trial key: lines} on evaluations: attacks that do not hold, detectors that were left out.
        best: the winner of the search among feasible, complete trials; None if there is none.
        feasible: keys of the complete trials that meet every floor.
        pareto: keys of the trials that no other feasible one dominates (objectives and floors' metrics).
        reference: the pretrained classifier's validation metrics.
        arms: results of the confirm stage, the winner ("best") first.
        scores: {"id" or OOD set: outlier scores} of the winner on the test sets; attacked ones under "<set> attacked".
        attack_examples: images (k, h, w, c) in [0, 1] before and after the winner's attack, or None.
        importances: {parameter: share}.
        timings: {what: seconds} of wall time, for the report's cost table.
        environment: versions, machine, commit.
        links: {"runs": url, "compare": url, "report": url} into the MLflow UI.
        ui_command: starts that UI.
        model: name and version of the winner's registered model, "NAME/3"; "" if it is not registered.
        model_lines: of Python, which load the winner's registered model; () if it is not registered.
        export_command: writes the winner as files.
        test_data: what must be known of the test data: sets left out, corruptions that were regenerated,
            images that stand in two sets.
        classes: names in the order of the labels.
        data_version: a hash of the data set's content, "" before the first evaluation.
        underway: the run has not come to its end, so that what is missing may still come.
    """

    plan: Plan
    records: Sequence[TrialRecord]
    tests: Mapping[str, Mapping[str, float]]
    best: TrialRecord | None
    feasible: frozenset[str]
    pareto: Sequence[str]
    reference: Mapping[str, float]
    arms: Sequence[ArmResult] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    attack_examples: Mapping[str, Any] | None = None
    importances: Mapping[str, float] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    ui_command: str = ""
    model: str = ""
    model_lines: Sequence[str] = ()
    export_command: str = ""
    problems: Sequence[str] = ()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    test_data: Sequence[str] = ()
    classes: Sequence[str] = ()
    data_version: str = ""
    underway: bool = False

    def lane(self, name: str) -> list[TrialRecord]:
        return [record for record in self.records if record.lane == name]

    def count(self, lane: str, state: State) -> int:
        return sum(record.state is state for record in self.lane(lane))

    @property
    def measured_arms(self) -> Sequence[ArmResult]:
        """Return the arms of the confirm stage; without one the winner with the values of its run in the search."""
        tests = self.tests.get(self.best.key, {}) if self.best else {}
        if self.arms or self.best is None or not tests:
            return self.arms
        values, best = {metric: (value,) for metric, value in tests.items()}, self.best
        return [ArmResult("best", "search", "", best.configuration, values, best.seconds, (best.seed,))]

    def arm(self, name: str) -> ArmResult | None:
        return next((arm for arm in self.arms if arm.name == name), None)
