"""The columns that describe a trial: one spec each for the CSV files, the report's tables and the console's live table.

A new column is one entry of `TRIAL_COLUMNS`, which says in which tables it stands and under which heading; the tables
take their columns from here alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tuner.base.records import State, TrialRecord

#: How a trial's state is said while a run goes on, and in the report at its end.
STATE_LABELS = {
    State.COMPLETE: "complete",
    State.PRUNED: "stopped early",
    State.FAIL: "failed",
    State.RUNNING: "running",
}
STATE_LABELS_AT_END = {**STATE_LABELS, State.RUNNING: "not finished"}


class TrialTable(StrEnum):
    """Where trials are listed, one a row."""

    TRIALS_CSV = "trials.csv"
    ARMS_CSV = "arms.csv"
    REPORT = "report"
    LIVE = "live table"


@dataclass(frozen=True)
class TrialRow:
    """One trial of a table.

    Attributes:
        meets_floors: whether it meets every floor that could be judged.
    """

    record: TrialRecord
    meets_floors: bool


@dataclass(frozen=True)
class TrialColumn:
    """A column of the tables of trials.

    Attributes:
        headings: {table it stands in: its heading there}; the CSV files have stable names.
        value: what CSV files hold.
        text: what report and live table show; None shows the value.
        words: words, set to the left; numbers are set to the right.
        at_end: after the metrics and parameters, where a table has them.
    """

    headings: Mapping[TrialTable, str]
    value: Callable[[TrialRow], Any]
    text: Callable[[TrialRow, TrialTable], str] | None = None
    words: bool = False
    at_end: bool = False

    def cell(self, row: TrialRow, table: TrialTable) -> str:
        """Return what the report and the live table show of a trial."""
        return str(self.value(row)) if self.text is None else self.text(row, table)


def columns_of(table: TrialTable, at_end: bool = False) -> list[TrialColumn]:
    """Return a table's columns that stand before its metrics and parameters, or after them."""
    in_csv = table in (TrialTable.TRIALS_CSV, TrialTable.ARMS_CSV)  # these have all of them before
    return [
        column
        for column in TRIAL_COLUMNS
        if table in column.headings and (column.at_end and not in_csv) == at_end
    ]


def csv_values(row: TrialRow, table: TrialTable) -> dict[str, Any]:
    """Return {heading: value} of a trial's row in a CSV file."""
    return {column.headings[table]: column.value(row) for column in columns_of(table)}


def _is_confirm(row: TrialRow) -> bool:
    return row.record.lane == "confirm"


def _state(row: TrialRow, table: TrialTable) -> str:
    record = row.record
    if table is TrialTable.LIVE:
        judged = row.meets_floors or record.state is State.RUNNING  # accuracy may dip early
        return STATE_LABELS[record.state] if judged else "below floor"
    below = record.state is State.COMPLETE and not row.meets_floors
    return f"{STATE_LABELS_AT_END[record.state]}{', below floor' if below else ''}"


def _epochs(row: TrialRow, table: TrialTable) -> str:
    record = row.record
    best = f" (best {record.judged_epoch})" if record.judged_epoch and table is TrialTable.REPORT else ""
    return f"{record.epochs}{best}"


def _feasible(row: TrialRow) -> str:
    """Return "true" or "false" of a complete trial of a search, "" of any other."""
    judged = row.record.state is State.COMPLETE and not _is_confirm(row)
    return str(row.meets_floors).lower() if judged else ""


def _csv(name: str, *tables: TrialTable) -> dict[TrialTable, str]:
    return dict.fromkeys(tables or (TrialTable.TRIALS_CSV, TrialTable.ARMS_CSV), name)


_ARMS, _REPORT, _LIVE = TrialTable.ARMS_CSV, TrialTable.REPORT, TrialTable.LIVE

#: In the order of the tables.
TRIAL_COLUMNS = (
    TrialColumn(_csv("lane", _ARMS), lambda row: row.record.lane),
    TrialColumn({**_csv("number"), _REPORT: "trial", _LIVE: "trial"}, lambda row: row.record.number),
    TrialColumn(_csv("role", _ARMS), lambda row: row.record.role.value),
    TrialColumn(_csv("arm", _ARMS), lambda row: row.record.arm if _is_confirm(row) else row.record.lane),
    TrialColumn(_csv("seed_index", _ARMS), lambda row: row.record.seed_index if _is_confirm(row) else ""),
    TrialColumn(_csv("seed", _ARMS), lambda row: row.record.seed),
    TrialColumn(
        {**_csv("state"), _REPORT: "state", _LIVE: "state"},
        lambda row: row.record.state.value,
        _state,
        words=True,
    ),
    TrialColumn(
        {**_csv("epochs"), _REPORT: "epochs", _LIVE: "epoch"}, lambda row: row.record.epochs, _epochs
    ),
    TrialColumn(_csv("judged_epoch"), lambda row: row.record.judged_epoch or row.record.epochs),
    TrialColumn(
        {**_csv("reason"), _REPORT: "reason"},
        lambda row: " ".join(row.record.reason.split()),
        lambda row, _: row.record.reason,
        words=True,
        at_end=True,
    ),
    TrialColumn(_csv("feasible"), _feasible),
    TrialColumn(_csv("seconds", _ARMS), lambda row: round(row.record.seconds, 3)),
)
