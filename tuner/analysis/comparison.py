"""Several runs of one data set side by side: where their plans differ, what can be compared, paired differences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from search_spaces.domain import to_json
from trainables.base.errors import InputError
from trainables.evaluation.metrics.metric_family import MEANS
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.evaluation.metrics.protocol import GROUPS, EvaluationProtocol
from tuner.analysis.results import ArmResult, Comparison, Interval, StudyResult, interval
from tuner.analysis.verdict import headline
from tuner.planning.plan import LanePlan, Plan

#: {field of a protocol: groups of metrics whose values depend on it}
DECIDES: Mapping[str, tuple[str, ...]] = {
    "score": ("ood", "robust_ood"),
    "steps": ("robust", "robust_ood"),
    "restarts": ("robust", "robust_ood"),
    "margin": ("robust",),
    "max_images": GROUPS,
    "auto_attack_images": ("robust",),
    "noise_rms": ("corrupted",),
    "noise_steps": ("corrupted",),
}
#: fields that say which metrics there are (their names hold the rest), or what is only remarked
NAMED = (
    *("name", "scores", "groups", "robust_epsilons", "ood_epsilons", "ood_sides", "robust_scores"),
    *("detectors", "auto_attack_epsilons", "check_steps", "check_restarts", "check_images"),
)
_CORRUPTED = "test/accuracy/corrupted"


@dataclass(frozen=True)
class DataSource:
    """What a run was trained and tested on.

    Attributes:
        name: the data set.
        folder: of data of the user's own, "" for any other.
        version: a hash of the content, "" if nothing was evaluated.
        corrupted: whether corruptions were among it, which the hash counts in.
    """

    name: str
    folder: str = ""
    version: str = ""
    corrupted: bool = False

    def differs(self, other: "DataSource") -> str:
        """Return how another run's data differ, "" if they are the same as far as is known."""
        if self.name != other.name:
            return f"other data: {self.name} and {other.name}"
        if self.version and self.version == other.version:
            return ""  # wherever they lie
        if self.folder != other.folder:
            return f"other data: {self.folder} and {other.folder}"
        known = self.version and other.version and self.corrupted == other.corrupted
        return "the data have changed between the two runs" if known else ""


@dataclass(frozen=True)
class Entry:
    """An arm of a run; without a confirm stage, the winner's one training in the search.

    Attributes:
        run: its name.
        data: only entries of the same data are compared.
        protocol: by which it was measured.
        confirmed: whether it was trained with fresh seeds.
    """

    run: str
    data: DataSource
    protocol: EvaluationProtocol
    arm: ArmResult
    confirmed: bool

    @property
    def label(self) -> str:
        return f"{self.run}: {self.arm.label}"


@dataclass(frozen=True)
class Difference:
    """One entry minus another in one metric.

    Attributes:
        interval: of the difference; paired over the seeds that both have, else Welch's.
        shared: how many seeds both have; below 2 nothing is paired.
        obstacle: why the two cannot be compared, "" if they can.
    """

    ours: Entry
    theirs: Entry
    metric: str
    interval: Interval
    shared: int = 0
    obstacle: str = ""

    @property
    def paired(self) -> bool:
        return self.shared >= 2

    @property
    def comparison(self) -> Comparison | None:
        """Return it as `verdict.outcome` reads one; None where nothing can be compared."""
        if self.obstacle or not self.interval.n:
            return None
        mine, other = (e.arm.seed_interval(self.metric) for e in (self.ours, self.theirs))
        return Comparison(self.theirs.arm.name, self.metric, self.interval, mine.is_apart_from(other))


def entries_of(result: StudyResult) -> list[Entry]:
    """Return a run's arms, the winner first; of a run without a confirm stage its winner alone, [] without any."""
    plan, data, confirmed = result.plan, data_of(result), bool(result.arms)
    return [
        Entry(
            plan.run_name,
            data,
            plan.test_protocol("confirm", arm.name) if confirmed else plan.test_protocol(),
            arm,
            confirmed,
        )
        for arm in result.measured_arms
    ]


def data_of(result: StudyResult) -> DataSource:
    """Return a run's data."""
    plan = result.plan
    own = plan.dataset == "imagefolder" or ":" in plan.dataset
    corrupted = "corrupted" in plan.tested_groups
    return DataSource(plan.dataset, plan.data_dir if own else "", result.data_version, corrupted)


def compared_metrics(results: Sequence[StudyResult], entries: Sequence[Entry]) -> list[str]:
    """Return the headline metrics of any of the runs, in their order, that at least two of the runs have measured."""
    named = dict.fromkeys(metric for result in results for metric in headline(result.plan))
    runs = {m: {e.run for e in entries if e.arm.seed_interval(m).n} for m in named}
    return [metric for metric in named if len(runs[metric]) > 1]


# -- differences -------------------------------------------------------------------------------------------


def difference(ours: Entry, theirs: Entry, metric: str) -> Difference:
    """Return one entry minus another: paired by seed where they share two or more, else with Welch's interval."""
    found = obstacle(ours, theirs, metric)
    if found:
        return Difference(ours, theirs, metric, interval(()), obstacle=found)
    a, b = by_seed(ours.arm, metric), by_seed(theirs.arm, metric)
    shared = sorted(a.keys() & b.keys())
    if len(shared) >= 2:
        return Difference(ours, theirs, metric, interval([a[seed] - b[seed] for seed in shared]), len(shared))
    return Difference(ours, theirs, metric, welch(list(a.values()), list(b.values())), len(shared))


def by_seed(arm: ArmResult, metric: str) -> dict[int, float]:
    """Return {seed: finite value}."""
    pairs = zip(arm.seeds, arm.values.get(metric, ()), strict=True)
    return {seed: value for seed, value in pairs if math.isfinite(value)}


def welch(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Return the 95 % interval of the difference of two means of independent values, of unequal variances.

    Its `n` is that of the smaller sample; `half` is NaN where one has a single value.

    Source:
        Welch 1947, degrees of freedom of Welch-Satterthwaite; as `scipy.stats.ttest_ind(equal_var=False)`.
    """
    n = min(len(a), len(b))
    if not n:
        return interval(())
    mean = sum(a) / len(a) - sum(b) / len(b)
    if n == 1:
        return Interval(mean, math.nan, 1)
    if len(set(a)) == len(set(b)) == 1:
        return Interval(mean, 0.0, n)
    from scipy import stats

    bounds = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return Interval(mean, float(bounds.high - bounds.low) / 2, n)


def obstacle(ours: Entry, theirs: Entry, metric: str) -> str:
    """Return why two entries cannot be compared in a metric, "" if they can."""
    if found := ours.data.differs(theirs.data):
        return found
    missing = [e.run for e in (ours, theirs) if not e.arm.seed_interval(metric).n]
    if missing:
        return f"not measured in {missing[0]}"
    known = find_metric(metric)
    mine, other = ours.protocol, theirs.protocol
    changed = [
        f"{field} {getattr(mine, field)} and {getattr(other, field)}"
        for field, groups in DECIDES.items()
        if known.spec.group in groups
        and getattr(mine, field) != getattr(other, field)
        and not (field == "score" and "score" in known.parameters)
    ]
    if changed:
        return f"measured otherwise: {', '.join(changed)}"
    sets = [_sets_behind(metric, e.arm.values) for e in (ours, theirs)]
    if sets[0] != sets[1]:
        return f"a mean over other sets: {', '.join(sorted(sets[0] ^ sets[1]))}"
    return ""


def _sets_behind(metric: str, measured: Iterable[str]) -> frozenset[str]:
    """Return the single sets, or corruptions, of a mean's family that were measured beside it."""
    known = find_metric(metric)
    if metric == _CORRUPTED:
        return frozenset(n for n in measured if "corruption" in find_metric(n).parameters)
    if known.parameters.get("set") not in MEANS:
        return frozenset()
    same = {k: v for k, v in known.parameters.items() if k != "set"}
    found = []
    for one in map(find_metric, measured):
        others = {k: v for k, v in one.parameters.items() if k != "set"}
        if one.spec == known.spec and others == same and one.parameters["set"] not in MEANS:
            found.append(one.parameters["set"])
    return frozenset(found)


# -- plans -------------------------------------------------------------------------------------------------


def plan_differences(results: Sequence[StudyResult]) -> list[tuple[str, list[str]]]:
    """Return (what, its value in each run) for everything that decides a result and is not the same in all runs."""
    described = [_description(result) for result in results]
    keys = dict.fromkeys(key for one in described for key in one)
    rows = [(key, [one.get(key, "-") for one in described]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _description(result: StudyResult) -> dict[str, str]:
    plan = result.plan
    said: dict[str, Any] = {
        "study": plan.study,
        "data": plan.data_dir or plan.dataset,
        "method": plan.method,
        "seed": plan.seed,
        "sampler": plan.sampler,
        "scheduler": plan.scheduler,
        "epochs": plan.max_epochs,
        "compared at epochs": _text(plan.rungs),
        "objective": _text(f"{o.metric} ({o.direction})" for o in plan.objectives),
        "floors": _text(plan.floors),
        "stages": _text(plan.stages),
        "fresh seeds": plan.confirm_seeds,
        "arms": _text(arm.name for arm in plan.arms),
        "epoch budget": plan.epoch_budget or "none",
        "device budget, s": plan.gpu_budget_s or "none",
        "time budget, s": plan.time_budget_s or "none",
        "warm start": _text(plan.warm_start_runs),
    }
    for lane in plan.lanes:
        said |= _searched(lane, "" if lane.name == "search" else f"{lane.name}: ")
    said |= {f"code of {path}": digest[:12] for path, digest in plan.code.items()}
    said |= _protocols(plan)
    said |= {key: value for key, value in result.environment.items() if key != "command"}
    return {key: str(value) for key, value in said.items()}


def _searched(lane: LanePlan, head: str) -> dict[str, Any]:
    found: dict[str, Any] = {f"{head}trials": lane.trials}
    if head:
        found[f"{head}method"] = lane.method
    settings = {**lane.fixed, **lane.space}
    return found | {f"{head}{key}": to_json(value) for key, value in settings.items()}


def _protocols(plan: Plan) -> dict[str, Any]:
    """Return the fields of the protocols of search, evaluation, arms and confirmed winner."""
    known = {
        "validation": plan.validation_protocol(),
        "evaluation": plan.test_protocol(),
        "evaluation of arms": plan.test_protocol("confirm"),
        "evaluation of the confirmed winner": plan.test_protocol("confirm", "best"),
    }
    return {
        f"{name}: {f.name}": _text(value) if isinstance(value := getattr(one, f.name), tuple) else value
        for name, one in known.items()
        for f in fields(EvaluationProtocol)
        if f.name != "name"
    }


def _text(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def check_same_data(results: Sequence[StudyResult]) -> None:
    """Raise InputError, which names two of the runs, if their data sets differ: nothing could be compared."""
    first = results[0].plan
    for other in (result.plan for result in results[1:]):
        if other.dataset != first.dataset:
            raise InputError(
                f"runs {first.run_name} and {other.run_name} are of two data sets, {first.dataset} and "
                f"{other.dataset}: no value of one can be compared with one of the other; name runs of one data set"
            )
