"""Specs that no table of this project holds: of the user's own code by reference, of installed packages by name.

A package gives a method, an attack and so on a name by an entry point of a group `robust_tuner.<kind>`.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isfunction
from typing import Any, Generic, TypeVar

from trainables.base.errors import CodeError, InputError
from trainables.base.user_code import UserCode, is_reference, name_code

S = TypeVar("S")

PREFIX = "robust_tuner."  #: of the groups of entry points


class OwnSpecs(Generic[S]):
    """Makes the specs of one kind that are the user's own; the `others` of a `Registry`."""

    def __init__(self, kind: str, group: str, make: Callable[[str, Any], S]) -> None:
        """Name the kind, in the singular, and its group of entry points.

        Args:
            make: makes the spec of (its name, what is found under it), which may be a spec already.
        """
        self.kind, self.group, self._make = kind, group, make
        self._loaded: dict[str, UserCode] = {}

    def __call__(self, name: str) -> S | None:
        """Return the spec of a reference or of an entry point's name, None for any other name.

        Raises:
            InputError: the code is of another kind.
            CodeError: it is not there, raises, or is a reference that the user has not named
                (`trainables.base.user_code.name_code`): whoever wrote the file that has it could name any code.
        """
        code = self._loaded.get(name) or self.code(name)
        if code is None:
            return None
        try:
            if is_reference(name):
                name = str(code)
                if code.unapproved:
                    raise CodeError(
                        f"{code.unapproved} is not code that you have launched with; look at it, and name it yourself, "
                        "or add --allow-changed-code"
                    )
            else:
                name_code(str(code))  # who installs a package trusts it
            spec = self._make(name, code.load())
        except InputError as error:
            raise type(error)(f"{self.kind} {name}: {error}") from error
        if is_reference(name):
            self._loaded[name] = code  # its text is not looked at again
        return spec

    def code(self, name: str) -> UserCode | None:
        """Return the code behind a name, None for a name of another kind; nothing is imported.

        Raises:
            CodeError: it is not there.
            InputError: two packages give the name.
        """
        reference = name if is_reference(name) else installed(self.group, name, self.kind)
        try:
            return UserCode(reference) if reference else None
        except CodeError as error:
            raise CodeError(f"{self.kind} {name}: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        return installed_names(self.group)


def installed(group: str, name: str, kind: str) -> str:
    """Return "module:attribute" of the entry point of a name, "" if there is none.

    Raises:
        InputError: two packages give the name.
    """
    found = {each.value: each for each in _entry_points(group) if each.name == name}
    if len(found) > 1:
        packages = " and ".join(sorted(each.dist.name if each.dist else "?" for each in found.values()))
        raise InputError(
            f"{kind} {name!r} is given by two packages, {packages}; name the one you mean: {' or '.join(sorted(found))}"
        )
    return next(iter(found), "").replace(" ", "")


def installed_names(group: str) -> tuple[str, ...]:
    """Return the names that installed packages give in a group, sorted."""
    return tuple(sorted({each.name for each in _entry_points(group)}))


def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return _of_path(group, tuple(sys.path))


@lru_cache(maxsize=64)
def _of_path(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=PREFIX + group))


def short_name(name: str) -> str:
    """Return a name without the place of the user's code: seeds and metrics want the same wherever the file is."""
    return name.rpartition(":")[2]


def described_type(thing: Any) -> str:
    """Return what an object is, for a message: "a function", "the class Net", "of type dict"."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return "a function" if isfunction(thing) else f"of type {type(thing).__name__}"


def described(thing: Any) -> str:
    """Return the first line of an object's docstring, without its full stop; else its name."""
    lines = (getattr(thing, "__doc__", None) or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else str(getattr(thing, "__name__", type(thing).__name__))
