"""Domains of searched parameters (Float, Int, Choice), and how texts such as "uniform(0, 1)" are read as domains."""

import re
import sys
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
LARGEST_INT = 2**53  #: samplers draw whole numbers as floats, which hold no larger ones exactly


class SpaceError(ValueError):
    """A domain or a study is invalid; the message names the value and what would be right."""


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform or log-uniform."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def __str__(self) -> str:
        return f"{'loguniform' if self.log else 'uniform'}({self.low!r}, {self.high!r})"

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high
        )


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both included, uniform or log-uniform."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        if max(abs(self.low), abs(self.high)) > LARGEST_INT:
            raise SpaceError(f"a range of whole numbers must stay within {LARGEST_INT}")

    def __str__(self) -> str:
        return f"{'logint' if self.log else 'int'}({self.low}, {self.high})"

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of a closed list of values."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("choice() is empty; give at least one value")
        if len(set(map(repr, self.options))) < len(self.options):
            raise SpaceError(f"choice{self.options} lists a value twice")

    def __str__(self) -> str:
        return f"choice({', '.join(map(str, self.options))})"

    def __contains__(self, value: object) -> bool:
        return value in self.options


Domain = Float | Int | Choice
Setting = Domain | Value


def _check_range(low: float, high: float, log: bool) -> None:
    if not all(abs(bound) <= sys.float_info.max for bound in (low, high)):
        raise SpaceError("a range must be finite, within the range of a float")
    if low > high:
        raise SpaceError(f"range ({low:g}, {high:g}) is inverted; write ({high:g}, {low:g})")
    if low == high:
        raise SpaceError(f"range ({low:g}, {high:g}) is empty; to fix the value write {low:g}")
    if log and low <= 0:
        raise SpaceError(f"a logarithmic range must start above 0, not at {low:g}")


_CALL = re.compile(r"^\s*(\w+)\s*\((.*)\)\s*$", re.DOTALL)
_UNCLOSED = re.compile(r"\s*(?:uniform|loguniform|int|logint|choice)\s*\([^)]*", re.DOTALL)
_FORMS = "uniform(a, b), loguniform(a, b), int(a, b), logint(a, b), choice(a, b, ...)"


def parse_setting(text: str) -> Setting:
    """Read the right-hand side of `--set KEY=VALUE`: a plain value fixes the parameter, a call gives its range.

    Example:
        "0.03" -> 0.03; "true" -> True; "eba" -> "eba"; "loguniform(1e-4,1e-1)" -> Float(1e-4, 0.1, log=True)

    Raises:
        SpaceError: an unknown form, a wrong number of arguments, a range that is inverted or empty.
    """
    call = _CALL.match(text)
    if not call:
        if _UNCLOSED.fullmatch(text):
            shown = text.strip()[:60]
            raise SpaceError(f"{shown} lacks its closing parenthesis; write {shown})")
        return parse_value(text)
    name, inside = call.group(1), [part for part in call.group(2).split(",") if part.strip()]
    if name == "choice":
        return Choice(tuple(parse_value(part) for part in inside))
    if name not in ("uniform", "loguniform", "int", "logint"):
        raise SpaceError(f"{name}(...) is not a domain; use {_FORMS}")
    values = [parse_value(part) for part in inside]
    bounds = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(values) != 2 or len(bounds) != 2:
        raise SpaceError(f"{text.strip()} needs two numbers; use {_FORMS}")
    if not all(abs(bound) <= sys.float_info.max for bound in bounds):
        raise SpaceError(f"{text.strip()[:60]} must have finite bounds")
    if name in ("uniform", "loguniform"):
        return Float(float(bounds[0]), float(bounds[1]), log=name == "loguniform")
    if any(b != int(b) for b in bounds):
        raise SpaceError(f"{text.strip()} needs whole numbers")
    return Int(int(bounds[0]), int(bounds[1]), log=name == "logint")


def parse_value(text: str) -> Value:
    """Return a literal as bool, int, float or text, whichever it reads as first."""
    word = text.strip().strip("\"'")
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def to_json(setting: Setting) -> Any:
    """Return a setting as it is written into `plan.json`: a plain value, or a domain's text."""
    return str(setting) if isinstance(setting, (Float, Int, Choice)) else setting
