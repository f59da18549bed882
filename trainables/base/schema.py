"""Options as frozen dataclasses: declared once, read from flat dotted keys, checked, written back.

Free of torch, so that a plan can be checked and printed without paying for its import.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from trainables.base.errors import InputError, nearest, unknown
from trainables.base.registry import Registry

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | Registry[Any] | None = None,
    cost: Callable[[Any], float] | None = None,
    radius: bool = False,
    path: bool = False,
) -> Any:
    """Declare one option: its neutral value, one sentence with its unit, and the values it may take.

    Args:
        low, high: inclusive bounds of a number.
        choices: the allowed values, or a registry whose names are the allowed values; a name that is
            registered later is allowed too.
        cost: memory or time of a trial with a value, in any unit: orders the values of a search. Whole numbers cost
            more the larger they are; of all others without it every value is taken to cost the same.
        radius: an Linf distance between images: a study's values for it, and its default, suit the built-in digits and
            shrink with the radius that other data are judged by.
        path: a file or folder of the user's; a plan keeps it absolute.
    """
    meta = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "cost": cost,
        "radius": radius,
        "path": path,
    }
    return dataclasses.field(default=default, metadata=meta)


def group(cls: type[Any], **defaults: Any) -> Any:
    """Declare a nested group of options; its keys get the field's name and a dot in front."""
    return dataclasses.field(default_factory=lambda: cls(**defaults))


def fields_of(cls: type[Any]) -> dict[str, tuple["dataclasses.Field[Any]", Any, Any]]:
    """Return {dotted key: (field, type, default)} of every leaf option of a dataclass."""
    return _leaves(cls, cls(), "")


def _leaves(
    cls: type[Any], instance: Any, prefix: str
) -> dict[str, tuple["dataclasses.Field[Any]", Any, Any]]:
    hints = typing.get_type_hints(cls)
    leaves: dict[str, tuple[dataclasses.Field[Any], Any, Any]] = {}
    for field in dataclasses.fields(cls):
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            leaves |= _leaves(type(value), value, f"{prefix}{field.name}.")
        else:
            leaves[prefix + field.name] = (field, hints[field.name], value)
    return leaves


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass of options from flat (or nested) keys; what is not named keeps its default.

    Raises:
        InputError: an unknown key (the nearest known one is suggested), a value of another type, out of
            its bounds or not among its choices.
    """
    flat = flatten(values)
    known = fields_of(cls)
    for key, value in flat.items():
        if key not in known:
            raise InputError(unknown("option", key, known))
        flat[key] = check(key, value, known[key][0], known[key][1])
    return _construct(cls, cls(), flat, "")


def _construct(cls: type[T], instance: Any, flat: Mapping[str, Any], prefix: str) -> T:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        key = prefix + field.name
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _construct(type(value), value, flat, key + ".")
        elif key in flat:
            changes[field.name] = flat[key]
    options: T = dataclasses.replace(instance, **changes)
    return options


def to_flat(options: Any) -> dict[str, Any]:
    """Return {dotted key: value} of every leaf; `build(type(options), to_flat(options)) == options`."""
    return {key: value for key, (_, _, value) in _leaves(type(options), options, "").items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted keys; flat keys pass through."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def choices_of(field: "dataclasses.Field[Any]") -> tuple[Any, ...] | None:
    """Return the values that an option may take at this moment; None if it has no closed list."""
    choices = field.metadata.get("choices")
    return choices.names if isinstance(choices, Registry) else choices


def check(key: str, value: Any, field: "dataclasses.Field[Any]", hint: Any) -> Any:
    """Return the value in its declared type, or raise InputError saying what would be right."""
    value = _coerce(key, value, hint)
    meta = field.metadata
    choices, low, high = choices_of(field), meta.get("low"), meta.get("high")
    if value is None:
        return value
    registry = meta.get("choices")
    if isinstance(registry, Registry) and value in registry:
        return registry[value].name
    if choices is not None and value not in choices:
        raise InputError(f"{key} is {value!r}; {nearest(str(value), map(str, choices))}")
    if low is not None and not value >= low:  # `not >=` also refuses NaN
        raise InputError(f"{key} is {value}; it must be at least {low:g}")
    if high is not None and not value <= high:
        raise InputError(f"{key} is {value}; it must be at most {high:g}")
    return value


def _coerce(key: str, value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return None if value is None else _coerce(key, value, inner[0])
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            value = (value,)
        return tuple(_coerce(key, v, typing.get_args(hint)[0]) for v in value)
    fits = {
        bool: lambda: isinstance(value, bool),
        str: lambda: isinstance(value, str),
        int: lambda: _is_finite(value) and value == int(value) and abs(value) < 2**63,
        float: lambda: _is_finite(value),
    }
    if hint not in fits:
        raise TypeError(f"{key}: options of type {hint} are not supported")
    if fits[hint]():
        return hint(value)
    if isinstance(value, (int, float)) and hint in (int, float) and not isinstance(value, bool):
        kind = "a whole number of at most 63 bits" if hint is int else "a finite number"
        raise InputError(f"{key} is {shortened(value)}; it must be {kind}")
    raise InputError(f"{key} is {shortened(value)}; it must be of type {hint.__name__}")


def _is_finite(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def shortened(value: Any) -> str:
    """Return a value as Python writes it, cut where it is long."""
    text = (
        repr(value) if not isinstance(value, int) or abs(value) < 10**40 else f"about 2**{value.bit_length()}"
    )
    return text if len(text) <= 60 else f"{text[:60]}..."
