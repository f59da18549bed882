"""Reads JSON values as the types that dataclasses declare; what does not fit is told with its place in the file."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

#: {type: what reads it from a JSON value, or raises ValueError}
Readers = Mapping[Any, Callable[[Any], Any]]


class Mismatch(ValueError):
    """A JSON value is not of the declared type; the message names its place."""


def read(hint: Any, value: Any, place: str, readers: Readers | None = None) -> Any:
    """Return a JSON value as a type: a dataclass, a number, a text, a tuple or mapping of these, a union with None.

    Args:
        place: of the value, for the message: "lanes[0].trials".
        readers: for types that JSON writes in another way.

    Raises:
        Mismatch: a value of another type, a number that is not finite, a missing or unknown entry.
    """
    readers = readers or {}
    if hint is Any:
        return value
    if hint in readers:
        try:
            return readers[hint](value)
        except ValueError as error:
            raise Mismatch(f"{place}: {error}") from error
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else read(inner, value, place, readers)
    if origin is tuple:
        items = _of_type(list, value, place)
        kinds = [arguments[0]] * len(items) if arguments[1:] == (...,) else list(arguments)
        if len(items) != len(kinds):
            raise Mismatch(f"{place} has {len(items)} entries; it must have {len(kinds)}")
        pairs = enumerate(zip(kinds, items, strict=True))
        return tuple(read(kind, item, f"{place}[{i}]", readers) for i, (kind, item) in pairs)
    if origin is Mapping:
        entries = _of_type(dict, value, place)
        return {key: read(arguments[1], v, f"{place}.{key}", readers) for key, v in entries.items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, place, readers)
    return _number(value, place) if hint is float else _of_type(hint, value, place)


def _dataclass(hint: Any, value: Any, place: str, readers: Readers) -> Any:
    entries = _of_type(dict, value, place or "it")
    hints = typing.get_type_hints(hint)
    fields = {f.name: f for f in dataclasses.fields(hint)}
    prefix = f"{place}." if place else ""
    for key in entries.keys() - fields.keys():
        near = difflib.get_close_matches(key, fields, n=1)
        raise Mismatch(f"{prefix}{key} is unknown{f'; did you mean {near[0]}?' if near else ''}")
    for name, field in fields.items():
        if name not in entries and field.default is field.default_factory is dataclasses.MISSING:
            raise Mismatch(f"{prefix}{name} is missing")
    try:
        return hint(**{key: read(hints[key], v, prefix + key, readers) for key, v in entries.items()})
    except Mismatch:
        raise
    except ValueError as error:  # of its own check
        raise Mismatch(f"{place}: {error}") from error


def _of_type(hint: Any, value: Any, place: str) -> Any:
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
    raise Mismatch(f"{place} is {_shown(value)}; it must be {names[hint]}")


def _number(value: Any, place: str) -> int | float:
    """Return a number as it is: a whole one stays whole, so that writing it again changes nothing."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf:
        return value
    raise Mismatch(f"{place} is {_shown(value)}; it must be a finite number")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
