"""The evaluation of one checkpoint as tables of text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainables.evaluation.metrics.metric_family import ood_family, robust_ood_family
from trainables.evaluation.metrics.metric_specs import Metric, find_metric
from tuner.analysis.metric_text import duration, value_text

Cell = tuple[str, str, str]  #: (row, column, text)
Values = Mapping[Metric, float | None]

_SIDES = {"": "OOD attacked", "id": "ID attacked", "both": "both attacked"}
_MEANS = ("near", "far")
_OTHER_SCORES = tuple(ood_family(kind) for kind in ("auroc", "fpr95_id_pos", "fpr95_ood_pos"))
_CORRUPTED = "test/accuracy/corrupted/"


def as_text(result: Mapping[str, Any]) -> str:
    """Return what `commands.evaluate.score` measured, table by table; what was not measured has none."""
    values = {find_metric(name): value for name, value in result["metrics"].items()}
    protocol = result["protocol"]
    lines = [
        f"checkpoint  {result['checkpoint']} ({result['method']}, {result['network']}, epoch {result['epoch']})",
        f"protocol    {protocol['name']} on {result['dataset']}, outlier score {protocol['score']}; "
        f"{duration(result['seconds'])}",
    ]
    for title, corner, cells in (
        ("accuracy and calibration", "metric", _numbers(values)),
        (f"OOD detection by {protocol['score']}", "OOD set", _ood(values)),
        (f"AUROC under attack on {protocol['score']}", "OOD set", _robust(values)),
        ("OOD detection by other scores", "score", _other_scores(values)),
        ("corruptions", "corruption", _corruptions(values)),
    ):
        if cells:
            lines += ["", title, *_aligned(_pivot(corner, cells))]
    return "\n".join([*lines, *(f"note: {remark}" for remark in result["remarks"])])


def _numbers(values: Values) -> list[Cell]:
    """Return the metrics that are one number: accuracies, calibration, corruption errors, the check of the attack."""
    return [
        (metric.label, "value", value_text(metric.name, value))
        for metric, value in values.items()
        if not {"set", "corruption"} & set(metric.parameters) and not metric.name.startswith(_CORRUPTED)
    ]


def _ood(values: Values) -> list[Cell]:
    return [
        (metric.parameter_label("set"), metric.spec.heading, value_text(metric.name, value))
        for metric, value in _means_last(values)
        if metric.spec.group == "ood" and "score" not in metric.parameters
    ]


def _robust(values: Values) -> list[Cell]:
    cells = []
    for metric, value in _means_last(values):
        if metric.spec.name == robust_ood_family("auroc") and "score" not in metric.parameters:
            column = f"{_SIDES[metric.parameters.get('side', '')]}, {metric.parameters['epsilon']}"
            cells.append((metric.parameter_label("set"), column, value_text(metric.name, value)))
    return cells


def _other_scores(values: Values) -> list[Cell]:
    """Return the means over near sets, then those over far sets, of every further score and detector."""
    return [
        (metric.parameters["score"], f"{metric.spec.heading}, {mean}", value_text(metric.name, value))
        for mean in _MEANS
        for metric, value in values.items()
        if metric.spec.name in _OTHER_SCORES
        and "score" in metric.parameters
        and metric.parameters["set"] == mean
    ]


def _corruptions(values: Values) -> list[Cell]:
    return [
        (metric.name.removeprefix(_CORRUPTED).replace("_", " "), "accuracy", value_text(metric.name, value))
        for metric, value in values.items()
        if metric.name.startswith(_CORRUPTED)
    ]


def _means_last(values: Values) -> list[tuple[Metric, float | None]]:
    """Return the metrics by OOD set, those of the near and far means after those of single sets."""
    by_set = [(metric, value) for metric, value in values.items() if "set" in metric.parameters]
    order = ("", *_MEANS)
    return sorted(by_set, key=lambda item: order.index(_mean_of(item[0])))


def _mean_of(metric: Metric) -> str:
    return metric.parameters["set"] if metric.parameters["set"] in _MEANS else ""


def _pivot(corner: str, cells: Iterable[Cell]) -> list[list[str]]:
    """Return header and rows, both in the order of their first cell; "-" where there is none."""
    texts = {(row, column): text for row, column, text in cells}
    columns = list(dict.fromkeys(column for _, column in texts))
    rows = dict.fromkeys(row for row, _ in texts)
    return [[corner, *columns], *([row, *(texts.get((row, c), "-") for c in columns)] for row in rows)]


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
