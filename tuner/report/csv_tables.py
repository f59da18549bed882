"""The trials of the study's own search, and those of everything it was compared with: as rows, and as CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tuner.analysis.results import StudyResult
from tuner.analysis.set_metrics import is_detail
from tuner.analysis.trial_columns import TrialRow, TrialTable, columns_of, csv_values
from tuner.base.records import TrialRecord
from tuner.base.text import visible

Row = Mapping[str, Any]


class Rows(NamedTuple):
    """A table: its columns in order, and {column: value} of each row, without the columns that do not apply to it."""

    columns: list[str]
    rows: list[dict[str, Any]]


def trials_csv(result: StudyResult) -> str:
    """Return `trial_rows` as the text of trials.csv."""
    return _csv(trial_rows(result))


def arms_csv(result: StudyResult) -> str:
    """Return `arm_rows` as the text of arms.csv."""
    return _csv(arm_rows(result))


def trial_rows(result: StudyResult) -> Rows:
    """Return one row per trial of the study's own search, in the order of their numbers.

    Columns: those of `trial_columns`, the searched parameters, the validation metrics it is judged by, the test
    metrics but for those of other scores on single sets (`is_detail`). `feasible` is empty for a trial that is
    not complete.
    """
    table = TrialTable.TRIALS_CSV
    rows = [
        (csv_values(_row(result, r), table), r.params, _validation(r), _tests(result, r))
        for r in sorted(result.lane("search"), key=lambda r: r.number)
    ]
    return _rows(table, rows, tuple(result.plan.lanes[0].space))


def arm_rows(result: StudyResult) -> Rows:
    """Return one row per trial of the other lanes: the baselines' searches and the confirm stage.

    The confirm stage's test metrics come with the arm and seed they belong to; an arm whose trials are not
    among the records is written from its results alone.
    """
    rows = []
    for r in sorted(result.records, key=lambda r: (r.lane == "confirm", r.lane, r.number)):
        if r.lane == "search":
            continue
        tests = _tests(result, r) or _of_seed(result, r.arm, r.seed_index)
        rows.append((csv_values(_row(result, r), TrialTable.ARMS_CSV), r.params, _validation(r), tests))
    known = {r.arm for r in result.records if r.lane == "confirm"}
    for arm in result.arms:
        if arm.name in known:
            continue
        for index in range(max(map(len, arm.values.values()), default=0)):
            columns = {"lane": "confirm", "role": arm.role, "arm": arm.name, "seed_index": index}
            rows.append((columns, {}, {}, _of_seed(result, arm.name, index)))
    params = tuple(dict.fromkeys(key for lane in result.plan.lanes[1:] for key in lane.space))
    return _rows(TrialTable.ARMS_CSV, rows, params)


def _row(result: StudyResult, record: TrialRecord) -> TrialRow:
    return TrialRow(record, record.key in result.feasible)


def _validation(record: TrialRecord) -> dict[str, float]:
    return {name: value for name, value in record.judged.items() if name.startswith("val/")}


def _tests(result: StudyResult, record: TrialRecord) -> dict[str, float]:
    return {name: value for name, value in result.tests.get(record.key, {}).items() if not is_detail(name)}


def _of_seed(result: StudyResult, arm: str, index: int) -> dict[str, float]:
    known = result.arm(arm)
    values = known.values if known else {}
    return {
        metric: series[index]
        for metric, series in values.items()
        if 0 <= index < len(series) and not is_detail(metric)
    }


def _rows(table: TrialTable, rows: Sequence[tuple[Row, Row, Row, Row]], params: Sequence[str]) -> Rows:
    """Return a table: the trials' columns, parameters in the order of the space, then metrics by name."""
    first = [column.headings[table] for column in columns_of(table)]
    known = [*params, *_names((row[1] for row in rows), params)]
    columns = [*first, *known, *_names(row[2] for row in rows), *_names(row[3] for row in rows)]
    return Rows(columns, [{**row[0], **row[1], **row[2], **row[3]} for row in rows])


def _csv(table: Rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns, restval="", lineterminator="\n")
    writer.writerow({name: _cell(name) for name in table.columns})
    for row in table.rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return visible(text.getvalue())


def _cell(value: Any) -> Any:
    """Return a cell; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _names(parts: Iterable[Row], without: Sequence[str] = ()) -> list[str]:
    return sorted({name for part in parts for name in part} - set(without))
