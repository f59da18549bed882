"""Reads metrics, floors and radii from the text of an option; see `option_values`."""

import re
from fractions import Fraction

from search_spaces.study import Floor
from trainables.evaluation.metrics.metric_specs import find_metric

_FRACTION = re.compile(r"((?:robust_\w*?|autoattack_))(\d+)/(\d+)(?=/|$)")
_FLOOR = (
    "write METRIC>=VALUE or METRIC>=pretrained-VALUE, for example accuracy/clean>=pretrained-0.02, or none"
)


def number(text: str) -> float:
    """Return a number; it may be a fraction, as 8/255."""
    try:
        # exponents only without a fraction: 1e999999999 would be written out
        return float(Fraction(text)) if "/" in text and "e" not in text.lower() else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError("numbers such as 0.1 or 8/255") from None


def radii(text: str) -> tuple[float, ...]:
    """Return Linf radii that are separated by commas, in [0, 1] pixel units, each once."""
    try:
        values = tuple(dict.fromkeys(number(part.strip()) for part in text.split(",")))
    except ValueError:
        raise ValueError("write radii such as 8/255 or 2/255,4/255") from None
    for value in values:
        if not 0 < value <= 1:
            hint = f"; {value:g} of 255 grey levels is {value:g}/255" if 1 < value <= 255 else ""
            raise ValueError(f"a radius must be above 0 and at most 1, in [0, 1] pixel units{hint}")
    return values


def validation_metric(text: str) -> str:
    """Return the full name of a validation metric; "val/" may be left out, and a radius may be a fraction."""
    text = text.strip()
    if text.startswith("test/"):
        raise ValueError("a search never sees the tests; name a validation metric (val/...)")
    name = text if text.startswith("val/") else f"val/{text}"
    name = _FRACTION.sub(lambda m: f"{m[1]}{number(f'{m[2]}/{m[3]}')!r}", name)
    metric = find_metric(name)
    return metric.at_radius(float(metric.parameters["epsilon"])) if "epsilon" in metric.parameters else name


def validation_metrics(text: str) -> tuple[str, ...]:
    """Return the names of validation metrics that are separated by commas."""
    names = tuple(validation_metric(part) for part in text.split(","))
    if len(set(names)) < len(names):
        raise ValueError("it names a metric twice")
    return names


def floor(text: str) -> Floor | None:
    """Return a floor: "accuracy/clean>=0.9" or "accuracy/clean>=pretrained-0.02"; None for "none"."""
    if text.strip() == "none":
        return None
    name, sign, bound = text.partition(">=")
    if not sign or not name.strip():
        wrong = "a floor is a least value; " if "<" in text else ""
        raise ValueError(f"{wrong}{_FLOOR}")
    metric, bound = validation_metric(name), bound.replace(" ", "")
    relative = bound.startswith("pretrained")
    less = bound.removeprefix("pretrained")
    if relative and less and not less.startswith("-"):
        raise ValueError(_FLOOR)
    try:
        value = number((less.removeprefix("-") or "0") if relative else bound)
    except ValueError:
        raise ValueError(_FLOOR) from None
    return Floor(metric, below_reference=value) if relative else Floor(metric, at_least=value)
