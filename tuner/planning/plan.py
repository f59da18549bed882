"""The plan of a run: a study with every option resolved, as it is stored in plan.json. Imports no torch."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from search_spaces.domain import Domain, Setting, parse_setting, to_json
from search_spaces.study import EPOCHS, Arm, Floor, Objective
from trainables.base.errors import InputError, unknown
from trainables.data.types.radii import Radii
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.evaluation.metrics.protocol import EvaluationProtocol, check_fields, from_fields
from trainables.options import fields_of
from trainables.options.methods import METHODS, UNTRAINED
from tuner.base.errors import UsageError
from tuner.base.records import Observation, TrialRole
from tuner.base.typed_json import Mismatch, read
from tuner.search.budget import SearchBudget
from tuner.search.schedulers import Schedule, schedule

STAGES = ("search", "evaluate", "confirm", "report")
MOST = 10**9  #: trials, epochs or seconds; a stored plan with more is damaged
MOST_SEEDS = 2**63


@dataclass(frozen=True)
class WarmStart:
    """What a lane's sampler was given of an earlier run.

    Attributes:
        taken: trials; they are in the lane's `prior`.
        skipped: {reason: trials}.
        note: a difference between the runs that the user should know, or "".
    """

    run: str
    lane: str
    taken: int
    skipped: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True)
class LanePlan:
    """One search: the study's own, or that of a baseline that is tuned too.

    Attributes:
        prior: observations of earlier runs that the sampler starts with; kept here, so that a resume does not need
            those runs.
    """

    name: str
    role: str
    method: str
    space: Mapping[str, Domain]
    fixed: Mapping[str, Any]
    trials: int
    prior: tuple[Observation, ...] = ()

    def values(self, key: str) -> tuple[Any, ...]:
        """Return the values that an option that is no range can take in this lane, () for one the method has not."""
        if key in self.space:
            return tuple(getattr(self.space[key], "options", ()))
        known = fields_of(METHODS[self.method].options)
        return (self.fixed.get(key, known[key][2]),) if key in known else ()


@dataclass(frozen=True)
class Plan:
    """A study, resolved. Everything that decides a result is in here, and in `plan.json`.

    Attributes:
        run_name: what the run's folder is called now.
        run_id: the run's for life, whatever its folder is called: names its Optuna studies and tags its MLflow runs.
        validation: fields of the protocol while searching.
        protocol: of the evaluate stage; `confirm` of every arm of the confirm stage, `closer` of its winner and of
            the classifier before any training.
        own: references to the user's own code behind the study, its methods, networks and so on.
        code: {path: SHA-256} of its files.
        learning_curves: trials are validated after every epoch, not only where they are compared and at their end.
        epoch: that a complete trial is judged and evaluated by, the last or the best on validation data.
        radii: that the protocols were made with; None in a run of an earlier version, which has its data set's.
        fitted: {what was chosen for data that the study has no profile for: value and why}.
        notes: what the user should know of the data, one line each.
        preset: the name and source of the authors' setting that the study has, "" for the study's own.
        deviations: where it is not theirs, one line each.
        data: {set that the search reads: "288 <hash>"} of the user's own data; see `data_facts.set_digests`.
    """

    study: str
    question: str
    claim: str
    source: str
    run_name: str
    dataset: str
    data_dir: str
    method: str
    seed: int
    lanes: tuple[LanePlan, ...]
    arms: tuple[Arm, ...]
    objectives: tuple[Objective, ...]
    floors: tuple[Floor, ...]
    headline: tuple[str, ...]
    effects: tuple[str, ...]
    max_epochs: int
    first_rung: int
    reduction: int
    confirm_seeds: int
    validation: Mapping[str, Any]
    protocol: Mapping[str, Any]
    confirm: Mapping[str, Any]
    closer: Mapping[str, Any]
    sampler: str = "tpe"
    scheduler: str = "asha"
    learning_curves: bool = True
    epoch: str = "last"
    warm_start: tuple[WarmStart, ...] = ()
    stages: tuple[str, ...] = STAGES
    time_budget_s: float | None = None
    epoch_budget: int | None = None
    gpu_budget_s: float | None = None
    epoch_timeout_s: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    pack: int | None = None
    cpus_per_trial: int = 1
    allow_duplicates: bool = False
    own: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    radii: Radii | None = None
    fitted: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    run_id: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    deviations: tuple[str, ...] = ()

    @property
    def trials(self) -> int:
        return self.lanes[0].trials

    @property
    def trains_one(self) -> bool:
        """Return whether this is one training alone: nothing is searched, and nothing compared."""
        return self.trials == 1 and len(self.lanes) == 1 and not self.lanes[0].space and not self.arms

    @property
    def schedule(self) -> Schedule:
        return schedule(self.scheduler, self.first_rung, self.reduction, self.max_epochs)

    @property
    def rungs(self) -> tuple[int, ...]:
        return self.schedule.rungs

    @property
    def budget(self) -> SearchBudget:
        return SearchBudget(self.epoch_budget, self.gpu_budget_s)

    @property
    def warm_start_runs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.run for item in self.warm_start))

    @property
    def content_hash(self) -> str:
        """Return a hash of what decides the results; name, machine and schedule of the work are not part of it."""
        data = to_dict(self)
        for key in (
            "run_name",
            "run_id",
            "data_dir",
            "stages",
            "time_budget_s",
            "epoch_budget",
            "gpu_budget_s",
            "epoch_timeout_s",
            "concurrency",
            "gpus_per_trial",
            "pack",
            "allow_duplicates",
            "command",
            "radii",  # the protocols hold them
            "fitted",  # a text; the values are in their places
            "notes",
            "preset",  # a text, as are the deviations
            "deviations",
        ):
            del data[key]
        for key, none in (("own", []), ("code", {}), ("data", {}), ("epoch", "last")):
            if data[key] == none:  # as before there was any
                del data[key]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def validation_protocol(self) -> EvaluationProtocol:
        return from_fields("validation", self.validation)

    def test_protocol(self, lane: str = "search", arm: str = "") -> EvaluationProtocol:
        """Return how a finished trial of a lane (and, in the confirm stage, of an arm) is measured."""
        if lane != "confirm":
            return from_fields("test", self.protocol)
        untrained = any(one.name == arm and one.method == UNTRAINED for one in self.arms)
        return from_fields("test", self.closer if arm == "best" or untrained else self.confirm)

    @property
    def cache_dir(self) -> str:
        """Return the cache folder that the study's settings name, "" for the user's own."""
        return str(self.lanes[0].fixed.get("cache_dir", ""))

    @property
    def judged_metrics(self) -> tuple[str, ...]:
        """Return the validation metrics that trials are judged by: the objectives', then the floors'."""
        return tuple(dict.fromkeys([*(o.metric for o in self.objectives), *(f.metric for f in self.floors)]))

    @property
    def tested_groups(self) -> tuple[str, ...]:
        """Return the metric groups that any finished trial is measured by."""
        protocols = (
            self.test_protocol(),
            self.test_protocol("confirm"),
            self.test_protocol("confirm", "best"),
        )
        return tuple(dict.fromkeys(group for protocol in protocols for group in protocol.groups))


# -- what it will cost -------------------------------------------------------------------------------------


def expected_epochs(plan: Plan) -> tuple[int, int]:
    """Return (fewest, most) epochs that the searches may train: with the most early stopping, and with none."""
    fewest = sum(plan.schedule.fewest_epochs(lane.trials) for lane in plan.lanes)
    return fewest, sum(lane.trials for lane in plan.lanes) * plan.max_epochs


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the values back from `plan.json` would give: a plan equals its stored copy."""
    loaded: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return loaded


def new_run_id(run_name: str) -> str:
    """Return the id of a new run: its name, to be read, and 12 random hex digits, so that no other run has it."""
    return f"{run_name}-{secrets.token_hex(6)}"


def run_id_of(data: Mapping[str, Any]) -> str:
    """Return the id of a stored plan; a run of an earlier version has the name it was given."""
    return str(data.get("run_id") or data["run_name"])


def with_stages(plan: Plan, asked: tuple[str, ...] | None) -> Plan:
    """Return a plan with the stages that were asked for; without any: all, of one training all but confirm."""
    default = tuple(stage for stage in STAGES if stage != "confirm" or not plan.trains_one)
    return replace(plan, stages=asked or default)


# -- to and from plan.json ---------------------------------------------------------------------------------


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values; domains as the text that `--set` takes."""
    data = {f.name: getattr(plan, f.name) for f in fields(plan)}
    data["lanes"] = [
        {
            **{f.name: getattr(lane, f.name) for f in fields(lane)},
            "space": {k: to_json(v) for k, v in lane.space.items()},
            "fixed": dict(lane.fixed),
            "prior": [asdict(observation) for observation in lane.prior],
        }
        for lane in plan.lanes
    ]
    data["arms"] = [
        {**asdict(replace(arm, overrides={})), "overrides": {k: to_json(v) for k, v in arm.overrides.items()}}
        for arm in plan.arms
    ]
    data["warm_start"] = [asdict(item) for item in plan.warm_start]
    data["objectives"] = [asdict(o) for o in plan.objectives]
    data["floors"] = [asdict(f) for f in plan.floors]
    data["radii"] = asdict(plan.radii) if plan.radii else None
    for name in ("validation", "protocol", "confirm", "closer", "code", "fitted", "extras"):
        data[name] = dict(getattr(plan, name))
    loaded: dict[str, Any] = json.loads(json.dumps(data))
    return loaded


def from_dict(data: Any) -> Plan:
    """Return the plan that `to_dict` wrote.

    Raises:
        UsageError: the file is of another version or damaged; the line says which entry.
    """
    if isinstance(data, dict):  # a run that began before copies were refused goes on with a note
        data = {"allow_duplicates": True, "run_id": data.get("run_name"), **data}  # its name was its id
    try:
        plan: Plan = read(Plan, data, "", {Domain: _domain, Setting: _setting})
        _check(plan)
    except (Mismatch, InputError) as error:
        raise UsageError(
            f"plan.json cannot be read: {error}; another version wrote it, or it was changed"
        ) from error
    return plan


def _setting(value: Any) -> Setting:
    return parse_setting(value) if isinstance(value, str) else value


def _domain(value: Any) -> Domain:
    setting = _setting(value)
    if not isinstance(setting, Domain):
        raise ValueError(f"{value!r} is no domain")
    return setting


def _check(plan: Plan) -> None:
    """Raise Mismatch for a number out of its range or an unknown name: what loops and file names rest on."""
    at_least = {"seed": 0, "reduction": 2, "gpus_per_trial": 0}
    at_least |= dict.fromkeys(("time_budget_s", "gpu_budget_s", "epoch_timeout_s"), 0)
    at_least |= dict.fromkeys(
        (
            "max_epochs",
            "first_rung",
            "confirm_seeds",
            "cpus_per_trial",
            "epoch_budget",
            "concurrency",
            "pack",
        ),
        1,
    )
    numbers = {name: (getattr(plan, name), low) for name, low in at_least.items()}
    numbers |= {f"lanes[{i}].trials": (lane.trials, 1) for i, lane in enumerate(plan.lanes)}
    for name, (value, low) in numbers.items():
        most = MOST_SEEDS if name == "seed" else MOST
        if value is not None and not low <= value <= most:
            raise Mismatch(f"{name} is {value}; it must be from {low} to {most}")
    names = [lane.name for lane in plan.lanes]
    if names[:1] != ["search"] or len(set(names)) < len(names):
        raise Mismatch(
            f"lanes are {', '.join(names) or 'missing'}; the first must be search, and no two the same"
        )
    for kind, found, known in (
        ("stage", plan.stages, STAGES),
        ("epoch", [plan.epoch], EPOCHS),
        ("role", [lane.role for lane in plan.lanes], tuple(TrialRole)),
    ):
        for name in found:
            if name not in known:
                raise InputError(unknown(kind, name, known))
    for lane in plan.lanes:
        if not re.fullmatch(r"\w[\w.-]*", lane.name):  # it is part of file names
            raise Mismatch(f"lane {lane.name!r} is no name")
    _check_protocols(plan)
    if not plan.objectives:
        raise Mismatch("objectives is empty")
    for metric in [o.metric for o in plan.objectives] + [f.metric for f in plan.floors]:
        find_metric(metric)
    schedule(plan.scheduler, plan.first_rung, plan.reduction, plan.max_epochs)


def _check_protocols(plan: Plan) -> None:
    """Raise Mismatch for values that no protocol has; the code behind a name may be gone, the results are not."""
    for name in ("validation", "protocol", "confirm", "closer"):
        try:
            check_fields(getattr(plan, name))
        except InputError as error:
            raise Mismatch(f"{name}: {error}") from error
