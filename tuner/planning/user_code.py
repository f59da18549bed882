"""The user's own code that a plan names: which files, what they held when the run began, and whether they still do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.domain import Setting
from search_spaces.study import Arm
from trainables.base.errors import InputError
from trainables.base.registry import Registry
from trainables.base.user_code import UserCode, approve, name_codes
from trainables.data.types.datasets import DATASETS
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.options import fields_of
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from tuner.base.errors import UsageError
from tuner.base.known_list import known, remember
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import LanePlan, Plan
from tuner.planning.space_overrides import key_values
from tuner.search.sampler_specs import SAMPLERS

LIST = "code"  #: of `known_list`: digests


def name_own_code(options: LaunchOptions) -> None:
    """Let the code that a command line names be imported; what is not there is told where it is used."""
    values: list[object] = [options.method, options.sampler, options.dataset, options.network]
    for value in key_values(options.settings, "lr=0.001").values():
        values += [
            part.strip() for part in value.strip().removeprefix("choice(").removesuffix(")").split(",")
        ]
    name_codes(values)


def own_code(
    lanes: Sequence[LanePlan],
    arms: Sequence[Arm],
    sampler: str,
    dataset: str,
    protocols: Iterable[EvaluationProtocol],
    defined_in: str,
) -> tuple[str, ...]:
    """Return references to all of the user's own code behind a plan, each once.

    Raises:
        InputError: some of it is not there, or a spec that trials need was registered in this process alone.
    """
    found = {defined_in} if defined_in else set()
    named: list[tuple[Registry[Any], str]] = [(SAMPLERS, sampler), (DATASETS, dataset), *_names(lanes, arms)]
    for registry, name in named:
        if registry.is_of_this_process(name) and registry is not SAMPLERS:
            raise InputError(
                f"{registry.kind} {name} was registered in this process alone, and trials run in others; put it into a "
                "file and name it as ./file.py:NAME, or give it an entry point"
            )
        code = registry.code(name)
        if code is not None:
            found.add(str(code))
    for protocol in protocols:
        found |= set(map(str, protocol.code))
    return tuple(sorted(found))


def _names(lanes: Sequence[LanePlan], arms: Sequence[Arm]) -> Iterator[tuple[Registry[Any], str]]:
    """Yield (registry, name) of every method, network, attack and so on that a trial may have."""
    settings: list[tuple[str, Mapping[str, Setting]]] = [
        (lane.method, {**lane.fixed, **lane.space}) for lane in lanes
    ]
    settings += [(arm.method or lanes[0].method, arm.overrides) for arm in arms]
    for method, values in settings:
        yield METHODS, method
        for key, (field, _, _) in fields_of(METHODS[method].options).items():
            registry = field.metadata.get("choices")
            if isinstance(registry, Registry):
                yield from ((registry, str(name)) for name in _values(values, key))


def _values(settings: Mapping[str, Setting], key: str) -> Sequence[object]:
    value = settings.get(key)
    return getattr(value, "options", () if value is None else (value,))


def digests_of(references: Iterable[str]) -> dict[str, str]:
    """Return {path: SHA-256} of the files behind some references; InputError if one of them is not there."""
    found: dict[str, str] = {}
    for reference in references:
        found |= UserCode(reference).digests()
    return dict(sorted(found.items()))


def present_code(plan: Plan, *, changed_allowed: bool) -> Mapping[str, str]:
    """Return the digests of a stored plan's code as it is now.

    Raises:
        UsageError: a file is not there or not what it was, and that is not allowed; the line names it.
    """
    try:
        code = digests_of(plan.own or _networks(plan))
    except InputError as error:
        raise UsageError(f"run {plan.run_name} needs code that is not there: {error}") from error
    changed = sorted(path for path in {*plan.code, *code} if plan.code.get(path) != code.get(path))
    if changed and plan.code and not changed_allowed:
        others = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UsageError(
            f"{changed[0]}{others} has changed since run {plan.run_name} began, so its trials would not be "
            "comparable; restore it, or go on with it as it is: --allow-changed-code"
        )
    return code


def _networks(plan: Plan) -> Iterator[str]:
    """Yield the references of a run of an earlier version, which had own networks alone."""
    for settings in (
        *({**lane.fixed, **lane.space} for lane in plan.lanes),
        *(arm.overrides for arm in plan.arms),
    ):
        for name in _values(settings, "network"):
            code = NETWORKS.code(str(name))
            if code is not None:
                yield str(code)


def approve_code(run: str, code: Mapping[str, str], *, named: bool) -> None:
    """Let the processes of a launch import the user's code of a plan.

    Args:
        run: its name, for the message.
        code: {path: SHA-256}.
        named: the user has named it now; else the run folder has, and it must have been launched with before.

    Raises:
        UsageError: a run folder names code that this user has never launched with.
    """
    unknown = sorted(path for path, digest in code.items() if digest not in known(LIST))
    if unknown and not named:
        raise UsageError(
            f"run {run} would run the code in {unknown[0]}, which you have not launched with on this machine; look at "
            "it, then go on with --allow-changed-code"
        )
    approve(code.values())


def remember_code(plan: Plan) -> None:
    """Remember that the user has launched with the code of a plan."""
    remember(LIST, plan.code.values())
