"""Metrics, values and time spans as people read them."""

import math
import re
from typing import Any

from tuner.analysis.results import Interval
from tuner.base.records import TrialRecord


def larger_is_better(metric: str) -> bool:
    """Return False for rates of false alarms, errors and losses."""
    return not re.search(r"fpr|loss|error|ece", metric)


_FAMILIES = {
    "accuracy/clean": "clean accuracy",
    "accuracy/corrupted": "accuracy on corruptions",
    "accuracy/corrupted/off_noise": "accuracy on corruptions that are no noise",
    "calibration/ece": "expected calibration error",
    "auroc": "AUROC",
    "aupr_in": "AUPR (ID)",
    "aupr_out": "AUPR (OOD)",
    "fpr95_id_pos": "FPR95 (OOD accepted at 95 % ID)",
    "fpr95_ood_pos": "FPR95 (ID flagged at 95 % OOD)",
}


_GROUPS = {"near": "near OOD", "far": "far OOD", "all": "all OOD sets", "unknown": "unknown classes"}


def plain(metric: str) -> str:
    """Return a metric in plain words.

    Example:
        "test/robust_auroc_0.1/near" -> "robust AUROC (ε 0.1), near OOD"; "val/accuracy/clean" ->
        "validation clean accuracy"; a name of no known form stays as it is.
    """
    split, _, name = metric.partition("/")
    if split not in ("val", "test", "train") or not name:
        return metric
    prefix = {"val": "validation ", "train": "training "}.get(split, "")
    return prefix + _plain_name(name)


def _plain_name(name: str) -> str:
    if name in _FAMILIES:
        return _FAMILIES[name]
    if found := re.fullmatch(r"accuracy/robust_([\d.]+)", name):
        return f"accuracy under attack (ε {found[1]})"
    if found := re.fullmatch(r"accuracy/autoattack_([\d.]+)", name):
        return f"accuracy under AutoAttack (ε {found[1]})"
    if found := re.fullmatch(r"attack_check_([\d.]+)/auroc_change", name):
        return f"robust AUROC, stronger attack minus this one (ε {found[1]})"
    if found := re.fullmatch(r"accuracy/corrupted/(.+)", name):
        return f"accuracy on {set_name(found[1])}"
    family, _, where = name.rpartition("/")
    if found := re.fullmatch(r"(?:(\w+)/)?robust_(auroc|fpr95_\w+?)_(?:(id|both)_)?([\d.]+)", family):
        score = f" by {found[1]}" if found[1] else ""
        attacked = {"id": "ID attacked, ", "both": "ID and OOD attacked, "}.get(found[3], "")
        return f"robust {_FAMILIES[found[2]]}{score} ({attacked}ε {found[4]}), {set_name(where)}"
    score, _, kind = family.rpartition("/")
    if kind in _FAMILIES:
        return f"{_FAMILIES[kind]}{f' by {score}' if score else ''}, {set_name(where)}"
    return name


def set_name(name: str) -> str:
    return _GROUPS.get(name, name.replace("_", " "))


def is_share(metric: str) -> bool:
    """Return whether a metric is a fraction that is shown as a percentage."""
    return bool(re.search(r"accuracy|auroc|aupr|fpr95|/ece$", metric))


def value_text(metric: str, value: float | None) -> str:
    """Return a value as shown: "90.1 %" for shares, four digits for the rest, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.4g}"


def interval_text(metric: str, found: Interval) -> str:
    """Return "90.1 ± 1.7 %", or the mean alone where one seed gives no interval."""
    if not math.isfinite(found.half):
        return value_text(metric, found.mean)
    if is_share(metric):
        return f"{100 * found.mean:.1f} ± {100 * found.half:.1f} %"
    return f"{found.mean:.4g} ± {found.half:.2g}"


def difference_text(metric: str, found: Interval) -> str:
    """Return "+5.3 ± 2.1 points"; points are percentage points."""
    if not math.isfinite(found.mean):
        return "-"
    scale, digits, unit = (100, "+.1f", " points") if is_share(metric) else (1, "+.4g", "")
    half = f" ± {scale * found.half:{digits[1:]}}" if math.isfinite(found.half) else ""
    return f"{scale * found.mean:{digits}}{half}{unit}"


def setting_text(value: Any) -> str:
    """Return a parameter's value with at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_text(record: TrialRecord) -> str:
    return ", ".join(f"{key}={setting_text(value)}" for key, value in record.params.items())


def duration(seconds: float) -> str:
    """Return a time span as people say it: "12.3 s", "4 min 05 s", "3 h 12 min"."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
