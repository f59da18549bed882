"""Winners at an end of a searched range, and the range that would go on beyond it."""

import math

from search_spaces.domain import Choice, Domain, Float, Int
from trainables.base.errors import InputError
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.planning.space_overrides import check_setting

EDGE = 0.05  # share of a range at each of its ends


def edge_of(domain: Domain, value: object) -> str:
    """Return the end of its range at which a value lies, "lower" or "upper"; "" for one inside or a choice.

    Example:
        0.245 in loguniform(0.02, 0.25): "upper"; 9 in int(2, 10): ""; 10 there: "upper"
    """
    if isinstance(domain, Choice) or not isinstance(value, (int, float)):
        return ""
    share = share_of_range(domain, value)
    return "lower" if share <= EDGE else "upper" if share >= 1 - EDGE else ""


def share_of_range(domain: Float | Int, value: float) -> float:
    """Return where a value stands in a range, 0 at its low end and 1 at its high end, on the range's own scale.

    Example:
        0.1 in loguniform(0.01, 1): 0.5
    """
    low, high, at = float(domain.low), float(domain.high), float(value)
    if domain.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def widened(domain: Float | Int, end: str, method: str, key: str) -> Float | Int | None:
    """Return a range that goes on by half its width at one end, on its own scale and to two digits.

    Returns:
        None where the method's option allows no value there.

    Example:
        loguniform(0.01, 1) at its upper end: loguniform(0.01, 10); int(2, 10): int(2, 14)
    """
    low, high = float(domain.low), float(domain.high)
    step = math.sqrt(high / low) if domain.log else (high - low) / 2
    if end == "upper":
        high = _rounded(high * step if domain.log else high + step)
    else:
        low = _rounded(low / step if domain.log else low - step)
        low = max(low, 0.0) if domain.low >= 0 and not domain.log else low
    wider: Float | Int
    if isinstance(domain, Int):
        wider = Int(max(round(low), 1) if domain.log else round(low), round(high), domain.log)
    else:
        wider = Float(low, high, domain.log)
    if wider == domain:
        return None
    try:
        check_setting(key, wider, fields_of(METHODS[method].options))
    except InputError:
        return None
    return wider


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
