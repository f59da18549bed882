"""From a study and the command line to a plan: concrete, checked, printable, hashable. No side effects, no torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import search_spaces
import trainables
from search_spaces.domain import Choice, Domain, Float, Int, Setting, SpaceError, parse_setting, to_json
from search_spaces.study import Arm, Floor, Objective, Study, fixed, searched
from trainables.data import catalog
from trainables.errors import InputError
from trainables.evaluation.spec import Protocol
from trainables.options import fields_of, unknown
from trainables.options.schema import check
from tuner.errors import UsageError
from tuner.scheduler import rungs

STAGES = ("search", "evaluate", "confirm", "report")
RESERVED = {
    "dataset": "--dataset",
    "data_dir": "--data-dir",
    "epochs": "--max-epochs",
    "seed": "--seed",
    "threads": "--cpus-per-trial",
}


@dataclass(frozen=True)
class Request:
    """What the command line asked for; None where it said nothing."""

    study: str
    run_name: str | None = None
    trials: int | None = None
    max_epochs: int | None = None
    time_budget_s: float | None = None
    concurrency: int | None = None
    seed: int | None = None
    dataset: str | None = None
    data_dir: str | None = None
    gpus_per_trial: float | None = None  # None = auto
    cpus_per_trial: int | None = None
    settings: Sequence[str] = ()
    stages: tuple[str, ...] = STAGES
    confirm_seeds: int | None = None


@dataclass(frozen=True)
class LanePlan:
    """One search: the study's own, or that of a baseline that is tuned too."""

    name: str
    role: str
    method: str
    space: Mapping[str, Domain]
    fixed: Mapping[str, Any]
    trials: int


@dataclass(frozen=True)
class Plan:
    """A study, resolved. Everything that decides a result is in here, and in `plan.json`."""

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
    stages: tuple[str, ...] = STAGES
    time_budget_s: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: int = 1
    command: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return self.lanes[0].trials

    @property
    def rungs(self) -> tuple[int, ...]:
        return rungs(self.first_rung, self.reduction, self.max_epochs)

    @property
    def content_hash(self) -> str:
        """Return a hash of what decides the results; name, machine and schedule of the work are not part of it."""
        data = to_dict(self)
        for key in (
            "run_name",
            "data_dir",
            "stages",
            "time_budget_s",
            "concurrency",
            "gpus_per_trial",
            "command",
        ):
            del data[key]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def validation_protocol(self) -> Protocol:
        return _protocol("validation", self.validation)

    def test_protocol(self) -> Protocol:
        return _protocol("test", self.protocol)


def _protocol(name: str, values: Mapping[str, Any]) -> Protocol:
    settled: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Protocol(name, **settled)


# -- resolving ---------------------------------------------------------------------------------------------


def resolve(request: Request, run_name: str, command: str = "") -> Plan:
    """Return the plan of a request.

    Raises:
        UsageError: anything that cannot work, in one line.
    """
    try:
        study = search_spaces.get(request.study)
        return _resolve(study, request, run_name, command)
    except (SpaceError, InputError) as error:
        raise UsageError(str(error)) from error


def _resolve(study: Study, request: Request, run_name: str, command: str) -> Plan:
    dataset = request.dataset or study.dataset
    info = catalog.get(dataset, request.data_dir or "")
    if not info.builtin and not request.data_dir:
        raise UsageError(f"dataset {dataset} needs --data-dir: {info.files}")
    profile = study.profile(dataset)
    trials = _positive("--trials", request.trials, profile.trials or study.trials)
    max_epochs = _positive("--max-epochs", request.max_epochs, profile.max_epochs or study.max_epochs)
    confirm_seeds = study.confirm_seeds if request.confirm_seeds is None else request.confirm_seeds
    if confirm_seeds < 1:
        raise UsageError(
            f"--confirm-seeds is {confirm_seeds}; it must be at least 1 (leave the stage out with --stages)"
        )
    space = _settle({**study.space, **profile.settings}, request.settings, _methods(study))
    common = {
        "dataset": dataset,
        "data_dir": request.data_dir or "",
        "epochs": max_epochs,
        "threads": request.cpus_per_trial or 1,
    }
    lanes = [_lane("search", "search", study.method, space, common, trials)]
    for arm in study.arms:
        if arm.search:
            own = {k: v for k, v in space.items() if k not in arm.drop}
            own |= arm.overrides
            lanes.append(_lane(arm.name, arm.role, arm.method or study.method, own, common, trials))
    return Plan(
        study=study.name,
        question=study.question,
        claim=study.claim,
        source=study.source,
        run_name=run_name,
        dataset=dataset,
        data_dir=request.data_dir or "",
        method=study.method,
        seed=0 if request.seed is None else request.seed,
        lanes=tuple(lanes),
        arms=study.arms,
        objectives=profile.objectives or study.objectives,
        floors=profile.floors or study.floors,
        headline=profile.headline or study.headline,
        effects=tuple(e for e in study.effects if e in searched(space)),
        max_epochs=max_epochs,
        first_rung=study.first_rung,
        reduction=study.reduction,
        confirm_seeds=confirm_seeds,
        validation=_plain({**study.validation, **profile.validation}),
        protocol=_plain({**study.protocol, **profile.protocol}),
        stages=_stages(request.stages),
        time_budget_s=request.time_budget_s,
        concurrency=request.concurrency,
        gpus_per_trial=request.gpus_per_trial,
        cpus_per_trial=request.cpus_per_trial or 1,
        command=command,
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the values back from `plan.json` would give: a plan equals its stored copy."""
    loaded: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return loaded


def _methods(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys([study.method, *(arm.method for arm in study.arms if arm.method)]))


def _lane(
    name: str, role: str, method: str, space: Mapping[str, Setting], common: Mapping[str, Any], trials: int
) -> LanePlan:
    known = fields_of(trainables.get(method).load_options())
    own = {key: value for key, value in space.items() if key in known}
    return LanePlan(name, role, method, searched(own), {**common, **fixed(own)}, trials)


def _positive(option: str, asked: int | None, default: int) -> int:
    value = default if asked is None else asked
    if value < 1:
        raise UsageError(f"{option} is {value}; it must be at least 1")
    return value


def _stages(stages: Sequence[str]) -> tuple[str, ...]:
    for stage in stages:
        if stage not in STAGES:
            raise UsageError(f"{unknown('stage', stage, STAGES)} (of {','.join(STAGES)})")
    if not stages:
        raise UsageError(f"--stages is empty; name some of {','.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in stages)


def _settle(space: Mapping[str, Setting], texts: Sequence[str], methods: Sequence[str]) -> dict[str, Setting]:
    """Put `--set KEY=VALUE` over a space and check every setting against the methods' options."""
    settled = dict(space)
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise UsageError(f"--set {text!r} is not KEY=VALUE, for example --set lr=0.001")
        if key in RESERVED:
            raise UsageError(f"--set {key}=... is not possible; use {RESERVED[key]}")
        settled[key] = parse_setting(value)
    known: dict[str, Any] = {}
    for method in methods:
        known |= fields_of(trainables.get(method).load_options())
    return {key: check_setting(key, value, known) for key, value in settled.items()}


def check_setting(key: str, setting: Setting, known: Mapping[str, Any]) -> Setting:
    """Return a setting in the option's type.

    Raises:
        InputError: unknown key, wrong type, out of bounds (a range is checked at both of its ends).
    """
    if key not in known:
        raise InputError(unknown("option", key, known))
    option, hint, _ = known[key]
    if isinstance(setting, Choice):
        return Choice(tuple(check(key, value, option, hint) for value in setting.options))
    if isinstance(setting, (Float, Int)):
        if hint is int and isinstance(setting, Float):
            raise InputError(f"{key} is a whole number; use int({setting.low:g}, {setting.high:g})")
        if hint not in (int, float):
            raise InputError(f"{key} is of type {hint.__name__}; use choice(...) or a plain value")
        low, high = (check(key, bound, option, hint) for bound in (setting.low, setting.high))
        return replace(setting, low=low, high=high) if hint is int else Float(low, high, setting.log)
    checked: Setting = check(key, setting, option, hint)
    return checked


# -- what it will cost -------------------------------------------------------------------------------------


def expected_epochs(plan: Plan) -> tuple[int, int]:
    """Return (fewest, most) epochs that the searches may train: with every rung cutting, and with none."""
    most = sum(lane.trials for lane in plan.lanes) * plan.max_epochs
    fewest = 0
    for lane in plan.lanes:
        alive, before = lane.trials, 0
        for rung in (*plan.rungs, plan.max_epochs):
            fewest += alive * (rung - before)
            alive, before = max(1, -(-alive // plan.reduction)), rung
    return fewest, most


# -- to and from plan.json ---------------------------------------------------------------------------------


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values; domains as the text that `--set` takes."""
    data = {f.name: getattr(plan, f.name) for f in fields(plan)}
    data["lanes"] = [
        {
            **{f.name: getattr(lane, f.name) for f in fields(lane)},
            "space": {k: to_json(v) for k, v in lane.space.items()},
            "fixed": dict(lane.fixed),
        }
        for lane in plan.lanes
    ]
    data["arms"] = [
        {**asdict(replace(arm, overrides={})), "overrides": {k: to_json(v) for k, v in arm.overrides.items()}}
        for arm in plan.arms
    ]
    data["objectives"] = [asdict(o) for o in plan.objectives]
    data["floors"] = [asdict(f) for f in plan.floors]
    data["validation"], data["protocol"] = dict(plan.validation), dict(plan.protocol)
    data["extras"] = dict(plan.extras)
    loaded: dict[str, Any] = json.loads(json.dumps(data))
    return loaded


def from_dict(data: Mapping[str, Any]) -> Plan:
    """Return the plan that `to_dict` wrote.

    Raises:
        UsageError: the file is of another version or damaged.
    """
    try:
        values = {f.name: data[f.name] for f in fields(Plan)}
        values["lanes"] = tuple(
            LanePlan(**{**lane, "space": {k: parse_setting(v) for k, v in lane["space"].items()}})
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
        values["objectives"] = tuple(Objective(**o) for o in data["objectives"])
        values["floors"] = tuple(Floor(**f) for f in data["floors"])
        for name in ("headline", "effects", "stages"):
            values[name] = tuple(data[name])
        return Plan(**values)
    except (KeyError, TypeError, SpaceError) as error:
        raise UsageError(f"plan.json cannot be read: {error!r}; it was written by another version") from error


__all__ = [
    "RESERVED",
    "STAGES",
    "LanePlan",
    "Plan",
    "Request",
    "check_setting",
    "expected_epochs",
    "from_dict",
    "resolve",
    "to_dict",
]
