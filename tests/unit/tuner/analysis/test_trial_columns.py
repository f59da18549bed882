"""One table of columns: every place where trials are listed takes its columns from it."""

import csv
import io
from dataclasses import replace

import pytest

from tests.unit.study_results import record, result
from tuner.analysis import trial_columns
from tuner.analysis.trial_columns import TRIAL_COLUMNS, TrialColumn, TrialRow, TrialTable, columns_of
from tuner.base.records import State
from tuner.console.run_progress import RunProgress
from tuner.report.blocks import Figure, Table
from tuner.report.csv_tables import arms_csv, trials_csv
from tuner.report.data import report_data
from tuner.report.search import trials

MADE = result(records=(record(3, params={"lr": 0.5}), record(1, lane="oe")), feasible=frozenset({"0003"}))


def shown() -> dict[TrialTable, dict[str, str]]:
    """Return {table: {heading: cell of the first trial}} as they are really written."""
    files = {TrialTable.TRIALS_CSV: trials_csv(MADE), TrialTable.ARMS_CSV: arms_csv(MADE)}
    found = {table: next(csv.DictReader(io.StringIO(text))) for table, text in files.items()}
    figure = next(block for block in trials(MADE, report_data(MADE)) if isinstance(block, Figure))
    assert isinstance(figure.words, Table)
    found[TrialTable.REPORT] = dict(zip(figure.words.header, figure.words.rows[0], strict=True))
    run = RunProgress(MADE.plan, {"search": 2, "confirm": 0}, lambda: 0.0)
    run.follow(MADE.records[0])
    live = run.state(100).table
    assert live.words == {"state", *MADE.plan.effects[:2]}  # what the study is about
    found[TrialTable.LIVE] = dict(zip(live.header, live.rows[0], strict=True))
    return found


def test_columns_golden() -> None:
    headings = {t: [c.headings[t] for c in [*columns_of(t), *columns_of(t, at_end=True)]] for t in TrialTable}
    assert headings == {
        TrialTable.TRIALS_CSV: ["number", "state", "epochs", "judged_epoch", "reason", "feasible"],
        TrialTable.ARMS_CSV: [
            *(
                "lane",
                "number",
                "role",
                "arm",
                "seed_index",
                "seed",
                "state",
                "epochs",
                "judged_epoch",
                "reason",
            ),
            *("feasible", "seconds"),
        ],
        TrialTable.REPORT: ["trial", "state", "epochs", "reason"],
        TrialTable.LIVE: ["trial", "state", "epoch"],
    }


def test_a_new_column_stands_in_every_table_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    column = TrialColumn(dict.fromkeys(TrialTable, "attempt"), lambda row: row.record.attempt + 7)
    monkeypatch.setattr(trial_columns, "TRIAL_COLUMNS", (*TRIAL_COLUMNS, column))
    assert {table: cells["attempt"] for table, cells in shown().items()} == dict.fromkeys(TrialTable, "7")


@pytest.mark.parametrize(
    "column", TRIAL_COLUMNS, ids=lambda column: str(next(iter(column.headings.values())))
)
def test_every_table_has_its_columns(column: TrialColumn) -> None:
    for table, cells in shown().items():
        assert (column.headings.get(table, "-") in cells) == (table in column.headings)


def test_states() -> None:
    state = next(c for c in TRIAL_COLUMNS if c.headings.get(TrialTable.REPORT) == "state")
    complete, cut = record(0), replace(record(0), state=State.PRUNED)
    assert state.cell(TrialRow(complete, True), TrialTable.REPORT) == "complete"
    assert state.cell(TrialRow(complete, False), TrialTable.REPORT) == "complete, below floor"
    assert state.cell(TrialRow(cut, False), TrialTable.REPORT) == "stopped early"
    assert state.cell(TrialRow(cut, True), TrialTable.LIVE) == "stopped early"
    assert state.cell(TrialRow(cut, False), TrialTable.LIVE) == "below floor"
    running = replace(record(0), state=State.RUNNING)  # which may still reach it
    assert state.cell(TrialRow(running, False), TrialTable.LIVE) == "running"
