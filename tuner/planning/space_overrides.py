"""Applies `--set KEY=VALUE` to a study's search space and checks every setting against the methods' options."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces.domain import Choice, Domain, Float, Int, Setting, parse_setting
from search_spaces.study import Arm
from trainables.base.errors import InputError, nearest, unknown
from trainables.base.registry import Registry, check_references
from trainables.base.schema import check
from trainables.base.storage import absolute_path
from trainables.options import build, fields_of
from trainables.options.methods import METHODS, known_options
from tuner.base.errors import UsageError
from tuner.planning.plan import LanePlan

#: {setting that --set cannot change: the option that does}
RESERVED = {
    "dataset": "--dataset",
    "data_dir": "--data-dir",
    "epochs": "--max-epochs",
    "seed": "--seed",
    "threads": "--cpus-per-trial",
}


def override_space(
    space: Mapping[str, Setting], texts: Sequence[str], methods: Sequence[str]
) -> dict[str, Setting]:
    """Return a space in which each `--set KEY=VALUE` replaces or adds a setting, every setting checked.

    Args:
        texts: the KEY=VALUE of every `--set`.
        methods: names of the methods whose options a setting may be one of.

    Raises:
        UsageError: a text is not KEY=VALUE, another option sets the key, or it has two values.
        SpaceError, InputError: a value that cannot be read or that the methods' options do not allow.
    """
    settled = dict(space)
    for key, value in key_values(texts, "lr=0.001").items():
        if key in RESERVED:
            raise UsageError(f"--set {key}=... is not possible; use {RESERVED[key]}")
        settled[key] = parse_setting(value)
    known = known_options(methods)
    return {key: check_setting(key, value, known) for key, value in settled.items()}


def key_values(texts: Sequence[str], example: str) -> dict[str, str]:
    """Return {key: text of its value} of every `--set`.

    Raises:
        UsageError: a text is not KEY=VALUE, or a key has two values.
    """
    given: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise UsageError(f"--set {text!r} is not KEY=VALUE, for example --set {example}")
        if given.setdefault(key, value) != value:
            raise UsageError(f"--set {key} is given twice, as {given[key]} and as {value}; give it once")
    return given


def check_setting(key: str, setting: Setting, known: Mapping[str, Any]) -> Setting:
    """Return a setting in the option's type.

    Raises:
        InputError: unknown key, wrong type, out of bounds (a range is checked at both of its ends), or a registered
            name whose code is not there.
    """
    if key not in known:
        raise InputError(unknown("option", key, known))
    option, hint, _ = known[key]
    if option.metadata.get("path"):
        setting = _from_anywhere(setting)
    checked = _checked(key, setting, option, hint)
    specs = option.metadata.get("choices")
    if isinstance(specs, Registry):
        for name in checked.options if isinstance(checked, Choice) else (checked,):
            check_references(specs[str(name)])
    return checked


def check_arm(arm: Arm, space: Mapping[str, Setting], method: str) -> None:
    """Check what an arm changes: it is trained when the search is over, too late for a misspelt option.

    Raises:
        InputError: an option that its method does not have, a value that it does not allow, a range without a search,
            or a dropped setting that the study does not have.
    """
    known = fields_of(METHODS[method].options)
    for key, value in arm.overrides.items():
        try:
            check_setting(key, value, known)
        except InputError as error:
            raise InputError(f"arm {arm.name}: {error}") from error
        if isinstance(value, (Float, Int, Choice)) and not arm.search:
            raise InputError(
                f"arm {arm.name}: {key!r} is a range, and the arm has no search of its own; give one value, or "
                "search=True"
            )
    for key in arm.drop:
        if key not in space:
            raise InputError(
                f"arm {arm.name} drops {key!r}, which the study does not set; {nearest(key, space)}"
            )


def check_together(lane: LanePlan) -> None:
    """Check that the settings of a lane, or of an arm without a search, do not contradict each other.

    Searched settings are taken at the low ends of their ranges, then at the high ends: one of them has to be allowed.

    Raises:
        InputError: what the method's options refuse of their combination.
    """
    refused: InputError | None = None
    for end in (0, -1):
        values = {key: _end(domain, end) for key, domain in lane.space.items()}
        try:
            build(METHODS[lane.method].options, {**lane.fixed, **values})
            return
        except InputError as error:
            refused = refused or error
    if lane.role == "search":
        raise InputError(str(refused)) from refused
    raise InputError(f"arm {lane.name}: {refused}; --arms NAME,... leaves arms out") from refused


def _end(domain: Domain, end: int) -> Any:
    return domain.options[end] if isinstance(domain, Choice) else (domain.low, domain.high)[end]


def _from_anywhere(setting: Setting) -> Setting:
    """Return a path, or a choice of them, as it is found from any folder."""
    if isinstance(setting, Choice):
        return Choice(
            tuple(absolute_path(each) if isinstance(each, str) else each for each in setting.options)
        )
    return absolute_path(setting) if isinstance(setting, str) else setting


def _checked(key: str, setting: Setting, option: Any, hint: Any) -> Setting:
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
