"""report.json: what the report's plots show, as one value; charts and the page's script read nothing else."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from search_spaces.domain import Choice
from trainables.evaluation.metrics.metric_family import ood_set_label
from tuner.analysis.checks import checks
from tuner.analysis.metric_text import interval_bounds
from tuner.analysis.results import StudyResult
from tuner.analysis.set_metrics import set_metrics
from tuner.analysis.trial_columns import STATE_LABELS_AT_END
from tuner.analysis.verdict import claim_metric, measured_headline, verdict
from tuner.base.records import State, TrialRecord
from tuner.base.text import visible
from tuner.planning.plan import Plan
from tuner.report.axes import Axis, count_axis, metric_axis, parameter_axis
from tuner.report.outlier_scores import ScorePlot, score_plots

FORMAT = 1
MOST_TRIALS = 5000  # in page and JSON; trials.csv has all
CURVE_POINTS = 40
CLEAN = "val/accuracy/clean"
STATES = tuple(STATE_LABELS_AT_END)  # a trial's state is its place in here
TESTED = "@tested"  # after a metric: its axis over the evaluated trials alone
_DIGITS = 6


@dataclass(frozen=True)
class Trials:
    """The trials of the study's own search, in the order of their numbers, column by column.

    Attributes:
        state: places in `states`.
        feasible: complete and meets every floor.
        values: {key of an axis: value of each trial, None where it has none}; validation metrics are those of the
            epoch that a trial is judged by.
        curves: the objective of each trial at `curve_epochs`, as far as it came, and at its last epoch.
    """

    states: Sequence[str]
    number: Sequence[int]
    state: Sequence[int]
    epochs: Sequence[int]
    feasible: Sequence[bool]
    values: Mapping[str, Sequence[Any]]
    curve_epochs: Sequence[int]
    curves: Sequence[Sequence[float | None]]

    def __len__(self) -> int:
        return len(self.number)

    def curve(self, i: int) -> list[tuple[int, float]]:
        """Return the (epoch, objective) points of a trial."""
        epochs = [e for e in self.curve_epochs if e < self.epochs[i]] + [self.epochs[i]]
        return [(e, v) for e, v in zip(epochs, self.curves[i], strict=False) if v is not None]


@dataclass(frozen=True)
class ArmData:
    """An arm of the confirm stage: its test metrics, a value per fresh seed."""

    name: str
    label: str
    role: str
    about: str
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ReportData:
    """Everything that plots show.

    Attributes:
        study: name, question, claim, source, data set, method, run, and when the report was made.
        verdict: level, metric, sentences.
        checks: [{name, findings}].
        axes: {parameter or metric: its axis}.
        parameters: the searched ones, the most important first; `effects` are those the study asks about.
        measures: metrics that trials can be looked at by, the objective first.
        sets: test metrics of single OOD sets (corruptions, radii), of the claim's family if it has any.
        winner: place of the winner in `trials`, None if there is none.
        repeated: ends of the interval of the claim's metric over fresh seeds of the winner, None without one.
        rungs: epochs at which trials were compared.
    """

    format: int
    study: Mapping[str, str]
    verdict: Mapping[str, Any]
    checks: Sequence[Mapping[str, Any]]
    objective: str
    larger_is_better: bool
    claim: str
    headline: Sequence[str]
    axes: Mapping[str, Axis]
    parameters: Sequence[str]
    effects: Sequence[str]
    importances: Mapping[str, float]
    measures: Sequence[str]
    sets: Sequence[str]
    trials: Trials
    winner: int | None
    repeated: tuple[float, float] | None
    pareto: Sequence[int]
    rungs: Sequence[int]
    max_epochs: int
    arms: Sequence[ArmData]
    scores: Sequence[ScorePlot]

    def better(self, a: float, b: float) -> bool:
        """Return whether one value of the objective is better than another."""
        return a > b if self.larger_is_better else a < b


def report_data(result: StudyResult, now: datetime | None = None) -> ReportData:
    """Return what the report's plots show of a study.

    Args:
        now: when the report is made; by default the present.
    """
    plan, judged = result.plan, verdict(result)
    space, objective, claim = plan.lanes[0].space, plan.objectives[0].metric, claim_metric(plan)
    records = shown_trials(result)
    sets = set_metrics(result)
    validated = [objective, *(o.metric for o in plan.objectives), *(f.metric for f in plan.floors), CLEAN]
    measures = [m for m in dict.fromkeys(validated) if m == objective or any(m in r.judged for r in records)]
    tests = [result.tests.get(r.key, {}) for r in records]
    measures += [m for m in dict.fromkeys((claim, *sets)) if any(m in values for values in tests)]
    trials = _trials(result, records, tuple(space), measures)
    winner = next((i for i, r in enumerate(records) if result.best and r.key == result.best.key), None)
    confirmed = result.arm("best")
    repeated = interval_bounds(claim, confirmed.seed_interval(claim)) if confirmed else (math.nan, math.nan)
    shares = {k: v for k, v in result.importances.items() if math.isfinite(v)}
    front = set(result.pareto)
    return ReportData(
        format=FORMAT,
        study={
            "name": plan.study,
            "question": plan.question,
            "claim": plan.claim,
            "source": plan.source,
            "dataset": plan.dataset,
            "method": plan.method,
            "run": plan.run_name,
            "made": f"{now or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        },
        verdict={"level": judged.level.value, "metric": judged.metric, "sentences": list(judged.sentences)},
        checks=[asdict(check) for check in checks(result)],
        objective=objective,
        larger_is_better=plan.objectives[0].direction == "maximize",
        claim=claim,
        headline=measured_headline(result),
        axes=_axes(result.plan, measures, trials, winner, repeated),
        parameters=sorted(space, key=lambda key: -shares.get(key, 0.0)),
        effects=[p for p in plan.effects if p in space],
        importances=shares,
        measures=measures,
        sets=sets,
        trials=trials,
        winner=winner,
        repeated=repeated if math.isfinite(sum(repeated)) else None,
        pareto=[i for i, r in enumerate(records) if r.key in front],
        rungs=plan.rungs,
        max_epochs=plan.max_epochs,
        arms=[ArmData(a.name, a.label, a.role, a.about, a.values) for a in result.arms],
        scores=score_plots(result.scores, ood_set_label),
    )


def shown_trials(result: StudyResult) -> list[TrialRecord]:
    """Return the trials of the study's own search in the order of their numbers: MOST_TRIALS, the winner among them."""
    records = sorted(result.lane("search"), key=lambda r: r.number)
    first, best = records[:MOST_TRIALS], result.best
    return [*first[:-1], best] if best is not None and best.key not in {r.key for r in first} else first


def _axes(
    plan: Plan, measures: Sequence[str], trials: Trials, winner: int | None, repeated: tuple[float, float]
) -> dict[str, Axis]:
    """Return the axes of parameters and measures, of the objective of the evaluated trials, trials and epochs."""
    axes = {key: parameter_axis(key, domain) for key, domain in plan.lanes[0].space.items()}
    objective, claim = plan.objectives[0].metric, claim_metric(plan)
    for metric in measures:
        column = trials.values[metric]
        inside = [*(column[i] for i in (winner,) if i is not None), *(repeated if metric == claim else ())]
        axes[metric] = metric_axis(metric, _known(column), _known(inside))
    pairs = zip(trials.values[objective], trials.values.get(claim, ()), strict=False)
    axes[objective + TESTED] = metric_axis(objective, _known(v for v, tested in pairs if tested is not None))
    axes["number"] = count_axis("trial", 0, max(trials.number, default=1))
    axes["epoch"] = count_axis("epoch", 1, plan.max_epochs)
    return axes


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]


def _trials(
    result: StudyResult, records: Sequence[TrialRecord], parameters: Sequence[str], measures: Sequence[str]
) -> Trials:
    objective = result.plan.objectives[0].metric
    values: dict[str, list[Any]] = {key: [_plain(r.params.get(key)) for r in records] for key in parameters}
    for domain, key in ((result.plan.lanes[0].space[key], key) for key in parameters):
        if isinstance(domain, Choice):
            values[key] = [None if v is None else str(v) for v in values[key]]
    for metric in measures:
        of = [result.tests.get(r.key, {}) if metric.startswith("test/") else r.judged for r in records]
        values[metric] = [_plain(known.get(metric)) for known in of]
    grid = _epoch_grid(result.plan.max_epochs, result.plan.rungs)
    curves = []
    for r in records:
        epochs = [e for e in grid if e < r.epochs] + ([r.epochs] if r.epochs else [])
        known = [r.history[e].metrics if e in r.history else {} for e in epochs]
        curves.append([_plain(metrics.get(objective)) for metrics in known])
    return Trials(
        states=tuple(STATE_LABELS_AT_END.values()),
        number=[r.number for r in records],
        state=[STATES.index(r.state) for r in records],
        epochs=[r.epochs for r in records],
        feasible=[r.state is State.COMPLETE and r.key in result.feasible for r in records],
        values=values,
        curve_epochs=grid,
        curves=curves,
    )


def _epoch_grid(most: int, rungs: Sequence[int]) -> list[int]:
    """Return the epochs that curves are shown at: all of a short training, else about CURVE_POINTS, every rung too."""
    even = np.linspace(1, most, min(most, CURVE_POINTS)).round().astype(int).tolist()
    return sorted({*even, *rungs})


def _plain(value: Any) -> Any:
    """Return a number with six digits, None for one that JSON does not have; text with its unseen characters shown."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return visible(value) if isinstance(value, str) else value


def to_json(data: ReportData) -> str:
    """Return the text of report.json."""
    return json.dumps(_json_value(data), separators=(",", ":"), allow_nan=False)


def _json_value(value: Any) -> Any:
    """Return a value as JSON has it; unseen characters of texts as escapes, for the script shows texts as they are."""
    if is_dataclass(value):
        return {f.name: _json_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {visible(key): _json_value(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(v) for v in value]
    return _plain(value)
