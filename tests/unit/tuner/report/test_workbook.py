"""The spreadsheet as openpyxl reads it back: every table, numbers as numbers, no text that is a formula."""

import io

import pytest
from openpyxl import load_workbook

from tests.unit.study_results import record, result
from tuner.analysis.results import ArmResult
from tuner.report.workbook import SHARE, Sheet, sheets, workbook

ARMS = (
    ArmResult(
        "best", "search", "", {},
        {
            "test/accuracy/clean": (0.9, 0.94),
            "test/auroc/hflip": (0.7, 0.8),
            "test/cores/fpr95_id_pos/hflip": (0.2, 0.4),
            "test/accuracy/corrupted/contrast": (0.5, 0.7),
            "test/mce": (60.0, 70.0),
        },
    ),
    ArmResult("pretrained", "baseline", "", {}, {"test/auroc/hflip": (0.5, 0.6)}),
)  # fmt: skip


def read(made: list[Sheet]) -> dict[str, list[tuple[object, ...]]]:
    book = load_workbook(io.BytesIO(workbook(made)))
    return {page.title: [tuple(cell.value for cell in row) for row in page.rows] for page in book}


def test_every_table_with_its_numbers() -> None:
    best = record(params={"lr": 0.01})
    found = read(
        sheets(result(arms=ARMS, records=(best,), best=best, tests={best.key: {"test/auroc/hflip": 0.75}}))
    )
    assert list(found) == ["arms", "OOD sets", "corruptions", "trials", "trials of arms"]
    heads, (label, name, mean, half, *others) = found["arms"][0], found["arms"][1]
    assert heads == ("test metric", "name", "winner", "± winner", "pretrained", "± pretrained", "seeds")
    assert (label, name, mean, others) == (
        "clean accuracy",
        "test/accuracy/clean",
        pytest.approx(0.92),
        [None, None, 2],
    )
    assert half == pytest.approx(12.706 * 0.02, rel=1e-3)  # t of 2 seeds, standard error .02
    assert [row[:3] for row in found["OOD sets"][1:]] == [
        ("winner", "msp", "hflip"), ("winner", "cores", "hflip"), ("pretrained", "msp", "hflip"),
    ]  # fmt: skip
    assert found["OOD sets"][0][3:] == ("auroc", "± auroc", "fpr95_id_pos", "± fpr95_id_pos", "seeds")
    assert [row[3] for row in found["OOD sets"][1:]] == [pytest.approx(0.75), None, pytest.approx(0.55)]
    assert {row[1] for row in found["corruptions"][1:]} == {"test/accuracy/corrupted/contrast", "test/mce"}
    trial = dict(zip(*found["trials"], strict=True))
    assert (trial["number"], trial["lr"], trial["test/auroc/hflip"]) == (0, 0.01, 0.75)


def test_fractions_are_shown_as_percentages_and_others_are_not() -> None:
    book = load_workbook(io.BytesIO(workbook(sheets(result(arms=ARMS)))))
    assert book["arms"]["C2"].number_format == SHARE
    formats = {row[1].value: row[2].number_format for row in book["corruptions"].iter_rows(min_row=2)}
    assert formats == {"test/accuracy/corrupted/contrast": SHARE, "test/mce": "General"}


def test_no_text_is_a_formula_and_none_breaks_the_file() -> None:
    odd = ["=1+1", "+cmd|' /C calc'!A0", "a\x00b\x1b[31m", "\u202eevil", "ünïcode"]
    book = load_workbook(io.BytesIO(workbook([Sheet("odd", odd, [odd, [1, float("nan"), True, None, 2.5]])])))
    first, second, third = book["odd"].rows
    assert {cell.data_type for row in (first, second) for cell in row} == {"s"}
    assert first[0].value == "=1+1"
    assert first[4].value == "ünïcode"
    assert [cell.value for cell in third] == [1, "nan", True, None, 2.5]


def test_a_run_without_trials_has_no_table() -> None:
    assert sheets(result()) == []
