"""Keyword arguments of the Python interface, written as the command line that asks for the same."""

import inspect
from collections.abc import Mapping, Sequence
from inspect import isfunction
from pathlib import Path
from typing import Any

from search_spaces.domain import Choice
from trainables.base.errors import unknown
from trainables.base.own_specs import described_type
from tuner.base.errors import UsageError
from tuner.planning.launch_options import launch_options
from tuner.planning.option import Option, OptionRole
from tuner.planning.own_study import reference_to

#: options of a launch as a process of its own, or of printing
LEFT_OUT = frozenset(("submit", "driver_on", "dry_run", "restart", "json"))


def keywords(action: str) -> dict[str, Option]:
    """Return {keyword: option} of what goes with an action: "study", "resume" or "evaluate".

    A keyword is the option's flag with underscores, `--time-budget` is `time_budget`; only `--set` is `settings`, a
    mapping.
    """
    return {
        _keyword(option): option
        for name, option in launch_options().items()
        if action in option.goes_with and name not in LEFT_OUT and _is_no_action(name, option)
    }


def _is_no_action(name: str, option: Option) -> bool:
    return option.role is not OptionRole.ACTION and name != "study"


def _keyword(option: Option) -> str:
    name = option.flag.removeprefix("--").replace("-", "_")
    return "settings" if name == "set" else name


def command_line(action: str, values: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that give these options.

    Args:
        values: {keyword: value}; None leaves an option at its default.

    Raises:
        UsageError: an unknown keyword, or a value of a type that no option takes.
    """
    known = keywords(action)
    words: list[str] = []
    for name, value in values.items():
        if name not in known:
            raise UsageError(unknown("option", name, known))
        if value is not None:
            words += _words(name, known[name], value)
    return words


def _words(name: str, option: Option, value: Any) -> list[str]:
    if option.read is None:
        if not isinstance(value, bool):
            raise UsageError(f"{name} is {value!r}; it must be True or False")
        return [option.flag] if value else []
    if option.repeated and name != "settings":
        return [f"{option.flag}={each}" for each in ([value] if isinstance(value, str) else value)]
    if option.repeated:
        if not isinstance(value, Mapping):
            raise UsageError(f"{name} is {value!r}; it must be a mapping such as {{'lr': 0.001}}")
        return [f"{option.flag}={key}={_text(key, each)}" for key, each in value.items()]
    return [f"{option.flag}={_text(name, value)}"]


def _text(name: str, value: Any) -> str:
    """Return a value as the command line has it; a domain such as Float(1e-4, 1e-2) writes itself.

    A class or function of the user's own becomes a reference to it.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_text(name, each) for each in value) or "none"
    if isinstance(value, float):
        return repr(float(value))  # not "np.float64(0.1)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Choice):
        return str(Choice(tuple(_text(name, each) if callable(each) else each for each in value.options)))
    if (isinstance(value, type) or isfunction(value)) and value.__module__ != "builtins":
        reference = reference_to(value)
        if not reference:
            raise UsageError(
                f"{name} is {described_type(value)} that other processes cannot find; write it to a file and import it"
            )
        return reference
    if isinstance(value, str | int | Path) or type(value).__module__.startswith("search_spaces"):
        return str(value)
    if hasattr(value, "item"):  # a number of NumPy or torch
        return _text(name, value.item())
    raise UsageError(
        f"{name} is {value!r}; give a number, a text or a range such as Float(1e-4, 1e-2, log=True)"
    )


def signature(function: Any, action: str) -> inspect.Signature:
    """Return a function's signature with its **options spelt out, for `help()` and the completion of notebooks."""
    given = inspect.signature(function)
    own = [p for p in given.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False if option.read is None else None
        )
        for name, option in keywords(action).items()
        if name not in given.parameters
    ]
    return given.replace(parameters=[*own, *more])


def described(action: str, leave_out: Sequence[str] = ()) -> str:
    """Return a line for each keyword, for a docstring."""
    return "\n".join(
        f"        {name}: {option.help}" for name, option in keywords(action).items() if name not in leave_out
    )
