"""The user's own code that a plan names: which files, what they held when the run began, and whether they still do."""

from collections.abc import Mapping, Sequence

from search_spaces.domain import Setting
from search_spaces.study import Arm
from trainables.base.errors import InputError
from trainables.base.user_code import approve
from trainables.options.networks import own_code
from tuner.base.errors import UsageError
from tuner.base.known_list import known, remember
from tuner.planning.plan import LanePlan, Plan

LIST = "code"  #: of `known_list`: digests


def code_of(lanes: Sequence[LanePlan], arms: Sequence[Arm]) -> dict[str, str]:
    """Return {path: SHA-256} of the user's files behind every network of a plan.

    Raises:
        InputError: one of them is not there.
    """
    found: dict[str, str] = {}
    for settings in (*({**lane.fixed, **lane.space} for lane in lanes), *(arm.overrides for arm in arms)):
        for name in _values(settings, "network"):
            found |= own_code(str(name))
    return dict(sorted(found.items()))


def present_code(plan: Plan, *, changed_allowed: bool) -> Mapping[str, str]:
    """Return `code_of` a stored plan as it is now.

    Raises:
        UsageError: a file is not there or not what it was, and that is not allowed; the line names it.
    """
    try:
        code = code_of(plan.lanes, plan.arms)
    except InputError as error:
        raise UsageError(f"run {plan.run_name} needs code that is not there: {error}") from error
    changed = sorted(path for path in {*plan.code, *code} if plan.code.get(path) != code.get(path))
    if changed and plan.code and not changed_allowed:
        others = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UsageError(
            f"{changed[0]}{others} has changed since run {plan.run_name} began, so its trials would not be of one "
            "network; restore it, or go on with it as it is: --allow-changed-code"
        )
    return code


def approve_code(plan: Plan, *, named: bool) -> None:
    """Let the processes of a launch import the user's code of a plan, and remember it.

    Args:
        named: the user has named it now; else the run folder has, and it must have been launched with before.

    Raises:
        UsageError: a run folder names code that this user has never launched with.
    """
    unknown = sorted(path for path, digest in plan.code.items() if digest not in known(LIST))
    if unknown and not named:
        raise UsageError(
            f"run {plan.run_name} would run the code in {unknown[0]}, which you have not launched with on this "
            "machine; look at it, then go on with --allow-changed-code"
        )
    remember(LIST, plan.code.values())
    approve(plan.code.values())


def _values(settings: Mapping[str, Setting], key: str) -> Sequence[object]:
    value = settings.get(key)
    return getattr(value, "options", () if value is None else (value,))
