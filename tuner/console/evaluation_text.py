"""The evaluation of one checkpoint as tables on a terminal."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.analysis.metric_text import duration, plain, set_name, value_text

Metrics = Mapping[str, float | None]

_OOD = {
    "auroc": "AUROC",
    "aupr_in": "AUPR in",
    "aupr_out": "AUPR out",
    "fpr95_id_pos": "FPR95 (OOD accepted)",
    "fpr95_ood_pos": "FPR95 (ID flagged)",
}
_SIDES = {"": "OOD attacked", "id_": "ID attacked", "both_": "both attacked"}
_LAST = ("near", "far")


def as_text(found: Mapping[str, Any]) -> str:
    """Return the result that `evaluation.score` made, table by table; what was not measured has none."""
    metrics = {name.removeprefix("test/"): value for name, value in found["metrics"].items()}
    protocol = found["protocol"]
    lines = [
        f"checkpoint  {found['checkpoint']} ({found['method']}, {found['network']}, epoch {found['epoch']})",
        f"protocol    {protocol['name']} on {found['dataset']}, outlier score {protocol['score']}; "
        f"{duration(found['seconds'])}",
    ]
    for title, (header, rows) in (
        ("accuracy and calibration", _single(metrics)),
        (f"OOD detection by {protocol['score']}", _by_set(metrics, _OOD)),
        (f"AUROC under attack on {protocol['score']}", _by_set(metrics, _robust(metrics))),
        ("OOD detection by other scores", _beside(metrics)),
        ("corruptions", _corrupted(metrics)),
    ):
        if rows:
            lines += ["", title, *_aligned([header, *rows])]
    return "\n".join([*lines, *(f"note: {remark}" for remark in found["remarks"])])


def _single(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return what is one number: accuracies, calibration, the check of the attack."""
    names = [
        name
        for name in metrics
        if name.startswith(("accuracy/", "calibration/", "attack_check")) and "/corrupted/" not in name
    ]
    return ["metric", "value"], [[plain(f"test/{n}"), value_text(n, metrics[n])] for n in names]


def _robust(metrics: Metrics) -> dict[str, str]:
    """Return {family: heading} of the AUROCs under attack."""
    found = {}
    for name in metrics:
        if match := re.fullmatch(r"(robust_auroc_(id_|both_)?([\d.]+))/.+", name):
            found[match[1]] = f"{_SIDES[match[2] or '']}, {match[3]}"
    return found


def _by_set(metrics: Metrics, families: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return a row for each OOD set, near and far means at the end."""
    shown = [family for family in families if any(name.startswith(f"{family}/") for name in metrics)]
    if not shown:
        return [], []
    sets = [name.partition("/")[2] for name in metrics if name.startswith(f"{shown[0]}/")]
    ordered = [s for s in sets if s not in _LAST] + [s for s in _LAST if s in sets]
    rows = [[set_name(s), *(_cell(metrics, f"{f}/{s}") for f in shown)] for s in ordered]
    return ["OOD set", *(families[f] for f in shown)], rows


def _beside(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return a row for each further score and detector."""
    scores = [name.split("/")[0] for name in metrics if re.fullmatch(r"\w+/auroc/(near|far)", name)]
    columns = [(family, group) for group in _LAST for family in ("auroc", "fpr95_id_pos", "fpr95_ood_pos")]
    columns = [(f, g) for f, g in columns if any(name.endswith(f"/{f}/{g}") for name in metrics)]
    rows = [
        [score, *(_cell(metrics, f"{score}/{f}/{g}") for f, g in columns)] for score in dict.fromkeys(scores)
    ]
    return ["score", *(f"{_OOD[f]}, {g}" for f, g in columns)], rows


def _corrupted(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    prefix = "accuracy/corrupted/"
    names = [name for name in metrics if name.startswith(prefix)]
    return ["corruption", "accuracy"], [
        [set_name(n.removeprefix(prefix)), value_text(n, metrics[n])] for n in names
    ]


def _cell(metrics: Metrics, name: str) -> str:
    return value_text(name, metrics.get(name))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
