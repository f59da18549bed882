"""The plan of a run: a study with every option resolved, as it is stored in plan.json. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from search_spaces.domain import Domain, SpaceError, parse_setting, to_json
from search_spaces.study import Arm, Floor, Objective
from trainables.evaluation.metrics.protocol import EvaluationProtocol, from_fields
from tuner.base.errors import UsageError
from tuner.base.records import Observation
from tuner.search.budget import SearchBudget
from tuner.search.schedulers import Schedule, schedule

STAGES = ("search", "evaluate", "confirm", "report")


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


@dataclass(frozen=True)
class Plan:
    """A study, resolved. Everything that decides a result is in here, and in `plan.json`.

    Attributes:
        validation: fields of the protocol while searching.
        protocol: of the evaluate stage; `confirm` of every arm of the confirm stage, `closer` of its winner.
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
    command: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return self.lanes[0].trials

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
        ):
            del data[key]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def validation_protocol(self) -> EvaluationProtocol:
        return from_fields("validation", self.validation)

    def test_protocol(self, lane: str = "search", arm: str = "") -> EvaluationProtocol:
        """Return how a finished trial of a lane (and, in the confirm stage, of an arm) is measured."""
        if lane != "confirm":
            return from_fields("test", self.protocol)
        return from_fields("test", self.closer if arm == "best" else self.confirm)

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
    for name in ("validation", "protocol", "confirm", "closer", "extras"):
        data[name] = dict(getattr(plan, name))
    loaded: dict[str, Any] = json.loads(json.dumps(data))
    return loaded


def from_dict(data: Mapping[str, Any]) -> Plan:
    """Return the plan that `to_dict` wrote.

    Raises:
        UsageError: the file is of another version or damaged.
    """
    data = {
        "allow_duplicates": True,
        **data,
    }  # a run that began before copies were refused goes on with a note
    try:
        values = {f.name: data[f.name] for f in fields(Plan)}
        values["lanes"] = tuple(
            LanePlan(
                **{
                    **lane,
                    "space": {k: parse_setting(v) for k, v in lane["space"].items()},
                    "prior": tuple(Observation(**{**o, "values": tuple(o["values"])}) for o in lane["prior"]),
                }
            )
            for lane in data["lanes"]
        )
        values["arms"] = tuple(
            Arm(
                **{
                    **arm,
                    "drop": tuple(arm["drop"]),
                    "overrides": {
                        k: parse_setting(v) if isinstance(v, str) else v for k, v in arm["overrides"].items()
                    },
                }
            )
            for arm in data["arms"]
        )
        values["warm_start"] = tuple(WarmStart(**item) for item in data["warm_start"])
        values["objectives"] = tuple(Objective(**o) for o in data["objectives"])
        values["floors"] = tuple(Floor(**f) for f in data["floors"])
        for name in ("headline", "effects", "stages"):
            values[name] = tuple(data[name])
        return Plan(**values)
    except (KeyError, TypeError, SpaceError) as error:
        raise UsageError(f"plan.json cannot be read: {error!r}; it was written by another version") from error
