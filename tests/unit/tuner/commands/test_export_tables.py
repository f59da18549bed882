"""`--export-tables`: a run's tables in a file, and one line where there are none."""

from pathlib import Path

import pytest
from openpyxl import load_workbook

from tests.unit.runs import StoredRun
from tuner.base.errors import UsageError
from tuner.commands.export_tables import export_tables
from tuner.planning.command_line import parse


def test_the_tables_of_a_run_as_far_as_it_has_come(tmp_path: Path) -> None:
    run = StoredRun(tmp_path)
    queue = run.queue()
    for value in (0.5, 0.6):
        run.trial(queue, [value] * 9)
    file = tmp_path / "new" / "tables.xlsx"
    said = export_tables(parse(["--export-tables", "one", "--storage", str(tmp_path), "--output", str(file)]))
    assert said == f"{file}\n  trials: 2 rows"
    (page,) = load_workbook(file)
    heads, first, second = ([cell.value for cell in row] for row in page.rows)
    assert [dict(zip(heads, row, strict=True))["number"] for row in (first, second)] == [0, 1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--output", "tables.csv"],
            "--output tables.csv is no file that ends in .xlsx, such as tables.xlsx",
        ),
        ([], "run one has no trial yet, so there is no table"),
    ],
)
def test_what_cannot_be_written_is_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    StoredRun(tmp_path)
    with pytest.raises(UsageError) as caught:
        export_tables(parse(["--export-tables", "one", "--storage", str(tmp_path), *words]))
    assert str(caught.value) == says
    assert not list(tmp_path.glob("*.xlsx"))
