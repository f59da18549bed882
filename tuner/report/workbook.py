"""A run's tables as one spreadsheet, a sheet for each: arms, OOD sets, corruptions, trials."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trainables.evaluation.metrics.metric_family import Unit
from trainables.evaluation.metrics.metric_specs import Metric, find_metric
from tuner.analysis.ood_table import kinds_of, ood_rows
from tuner.analysis.results import ArmResult, Interval, StudyResult
from tuner.base.text import visible
from tuner.report.csv_tables import arm_rows, trial_rows

SEEDS = "seeds"
SHARE = "0.0%"  # how a spreadsheet shows a fraction
_MARGIN = 2  # characters a column is wider than its longest cell
_WIDEST = 60


class Sheet(NamedTuple):
    """A table of a workbook.

    Attributes:
        rows: cells as they are: texts, numbers, None for empty.
        shares: rows and columns (from 0, without the heading) that are shown as percentages.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shares: frozenset[tuple[int, int]] = frozenset()


def sheets(result: StudyResult) -> list[Sheet]:
    """Return the tables that a run has the data for; metrics of arms are means over their seeds, with ± 95 %."""
    arms = result.measured_arms
    metrics = [find_metric(name) for name in dict.fromkeys(name for arm in arms for name in arm.values)]
    of_corruptions = [m for m in metrics if "corruption" in m.parameters or m.spec.name.startswith("mce")]
    alone = [m for m in metrics if "set" not in m.parameters and m not in of_corruptions]
    found = [
        _by_metric("arms", arms, alone),
        _ood(result),
        _by_metric("corruptions", arms, of_corruptions),
        _records("trials", *trial_rows(result)),
        _records("trials of arms", *arm_rows(result)),
    ]
    return [sheet for sheet in found if sheet.rows]


def workbook(made: Iterable[Sheet]) -> bytes:
    """Return an xlsx file. No text becomes a formula, whatever it begins with."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import Cell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for sheet in made:
        page = book.create_sheet(sheet.name)
        for number, values in enumerate([sheet.columns, *sheet.rows], start=1):
            for place, value in enumerate(values, start=1):
                cell = page.cell(number, place)
                assert isinstance(cell, Cell)
                _put(cell, value)
                if number == 1:
                    cell.font = Font(bold=True)
                elif (number - 2, place - 1) in sheet.shares:
                    cell.number_format = SHARE
        page.freeze_panes = "B2"
        for place, name in enumerate(sheet.columns):
            cells = [name, *(row[place] for row in sheet.rows if isinstance(row[place], str))]
            width = min(max(len(cell) for cell in cells) + _MARGIN, _WIDEST)
            page.column_dimensions[get_column_letter(place + 1)].width = width
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _put(cell: Any, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    if isinstance(value, str):
        cell.value = visible(value)
        cell.data_type = "s"
    else:
        cell.value = value


def _by_metric(name: str, arms: Sequence[ArmResult], metrics: Sequence[Metric]) -> Sheet:
    """Return a row per metric, two columns per arm."""
    columns = [
        "test metric",
        "name",
        *(text for arm in arms for text in (arm.label, f"± {arm.label}")),
        SEEDS,
    ]
    rows: list[list[Any]] = []
    shares: set[tuple[int, int]] = set()
    for metric in metrics:
        intervals = [arm.seed_interval(metric.name) for arm in arms]
        if metric.spec.unit is Unit.FRACTION:
            shares |= {(len(rows), place) for place in range(2, 2 + 2 * len(arms))}
        cells = [cell for interval in intervals for cell in _cells(interval)]
        rows.append([metric.label, metric.name, *cells, max(interval.n for interval in intervals)])
    return Sheet(name, columns, rows, frozenset(shares))


def _ood(result: StudyResult) -> Sheet:
    """Return a row per arm, score and OOD set; two columns per kind of metric."""
    found = ood_rows(result)
    kinds = kinds_of(found)
    columns = ["arm", "score", "OOD set", *(text for kind in kinds for text in (kind, f"± {kind}")), SEEDS]
    rows = []
    for row in found:
        cells = [cell for kind in kinds for cell in _cells(row.values.get(kind))]
        seeds = max(interval.n for interval in row.values.values())
        rows.append([row.arm.label, row.score, row.where, *cells, seeds])
    places = range(3, 3 + 2 * len(kinds))
    return Sheet("OOD sets", columns, rows, frozenset((n, k) for n in range(len(rows)) for k in places))


def _cells(interval: Interval | None) -> tuple[float | None, float | None]:
    if interval is None or not interval.n:
        return None, None
    return interval.mean, interval.half if math.isfinite(interval.half) else None


def _records(name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Sheet:
    return Sheet(name, columns, [[_plain(row.get(column)) for column in columns] for row in rows])


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
