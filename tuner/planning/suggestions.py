"""What may stand as the value of a launch option, for the completion of command lines in a shell.

Each function takes what has been typed of the value and {field: value} of the options before it; it returns whole
values, and the shell shows those that begin like it.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import search_spaces
from search_spaces.domain import SpaceError
from trainables.base.errors import InputError
from trainables.base.registry import Registry
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.planning.own_study import study_names

Given = Mapping[str, Any]
Suggest = Callable[[str, Given], Iterable[str]]


def names_of(registry: Registry[Any]) -> Suggest:
    """Return a function that suggests the names of a registry."""
    return lambda prefix, given: registry.offered


def any_of(*values: str) -> Suggest:
    """Return a function that suggests these values."""
    return lambda prefix, given: values


def listed(suggest: Suggest) -> Suggest:
    """Return a function that suggests values for each place of a list that is separated by commas."""

    def place(prefix: str, given: Given) -> Iterable[str]:
        before, comma, last = prefix.rpartition(",")
        return [f"{before}{comma}{value}" for value in suggest(last, given) if value not in before.split(",")]

    return place


def studies(prefix: str, given: Given) -> Iterable[str]:
    return study_names()


def runs(prefix: str, given: Given) -> Iterable[str]:
    """Suggest the runs in the folder of --storage, the newest first."""
    root = Path(given.get("storage") or "runs")
    plans = sorted(root.glob("*/plan.json"), key=lambda plan: plan.stat().st_mtime, reverse=True)
    return [plan.parent.name for plan in plans]


def arms(prefix: str, given: Given) -> Iterable[str]:
    """Suggest the arms of --study."""
    try:
        return ["none", *(arm.name for arm in search_spaces.get(given["study"]).arms)]
    except (KeyError, SpaceError):
        return ["none"]


def settings(prefix: str, given: Given) -> Iterable[str]:
    """Suggest KEY= of the options that the study or method has, and after it the values of a closed list."""
    known: dict[str, Any] = {}
    for method in _methods(given):
        known |= fields_of(METHODS[method].options)
    key, equals, _ = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in known]
    field, hint, _ = known.get(key, (None, None, None))
    choices = field.metadata.get("choices") if field is not None else None
    closed = choices.offered if isinstance(choices, Registry) else choices
    values = ("true", "false") if hint is bool else closed or ()
    return [f"{key}={value}" for value in values]


def _methods(given: Given) -> Iterable[str]:
    with suppress(InputError):  # code of the user's own is not imported to complete a command line
        if given.get("method") in METHODS:
            return [given["method"]]
    try:
        study = search_spaces.get(given["study"])
    except (KeyError, SpaceError):
        return METHODS.names
    return dict.fromkeys([study.method, *(arm.method for arm in study.arms if arm.method)])
