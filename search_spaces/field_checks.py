"""Checks that the fields of a study hold what their annotations say: a study of the user's own may hold anything."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from search_spaces.domain import SpaceError

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}


def check_fields(
    thing: Any, owner: str, least: Mapping[str, int] | None = None, anything: Collection[str] = ()
) -> None:
    """Check every field of a dataclass; a list becomes a tuple.

    Args:
        owner: what the fields are of, for the message: "study mine".
        least: {field: smallest whole number that it may hold}.
        anything: fields that are not checked.

    Raises:
        SpaceError: a value of another type, or a smaller number; the message says what would be right.
    """
    hints = get_type_hints(type(thing))
    for field in (each for each in fields(thing) if each.name not in anything):
        value, hint = getattr(thing, field.name), hints[field.name]
        if get_origin(hint) is tuple and isinstance(value, list):
            value = tuple(value)
            object.__setattr__(thing, field.name, value)  # a frozen dataclass, that is being made
        wanted = _wanted(value, hint)
        low = (least or {}).get(field.name)
        if not wanted and low is not None and value < low:
            wanted = f"at least {low}"
        if wanted:
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
            raise SpaceError(f"{owner}: {field.name} is {shown}; it must be {wanted}")


def _wanted(value: Any, hint: Any) -> str:
    """Return what a value must be by its annotation, "" if it is that."""
    if hint is Any:
        return ""
    if get_origin(hint) is UnionType:
        first = next(each for each in get_args(hint) if each is not NoneType)
        return "" if value is None else _wanted(value, first)
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if isinstance(value, tuple) and not any(_wanted(each, kind) for each in value):
            return ""
        return 'a tuple of texts, ("...",)' if kind is str else f"a tuple, ({kind.__name__}(...),)"
    kind = get_origin(hint) or hint
    if issubclass(kind, Mapping):
        return "" if isinstance(value, Mapping) else "a dict"
    known = (int, float) if kind is float else kind
    fits = isinstance(value, known) and (kind is bool or not isinstance(value, bool))
    return "" if fits else _WORDS.get(kind, f"{kind.__name__}(...)")
