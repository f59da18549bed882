"""How the winner is used elsewhere: at the end of the launch and in both reports."""

import html
import io
from dataclasses import replace
from pathlib import Path

from tests.unit.study_results import result
from tuner.console.progress import Console
from tuner.report.build import write_report

LINES = (
    'import mlflow; mlflow.set_tracking_uri("sqlite:////x/m.db")',
    'model = mlflow.pyfunc.load_model("m")',
)
EXPORT = "python launch.py --export one --format onnx"


def test_the_lines_stand_at_the_end_and_in_both_reports(tmp_path: Path) -> None:
    made = replace(result(), model_lines=LINES, export_command=EXPORT)
    out = io.StringIO()
    Console(made.plan, 40, stream=out).answer(made, tmp_path)
    assert (
        f"the winner as a model, in Python:\n  {LINES[0]}\n  {LINES[1]}\n\nthe winner as files:\n  {EXPORT}\n"
        in (out.getvalue())
    )
    write_report(made, tmp_path)
    for name in ("report.md", "report.html"):
        text = html.unescape((tmp_path / name).read_text("utf-8"))
        for line in (*LINES, EXPORT, "Use the model"):
            assert line in text, name


def test_without_an_answer_of_mlflow_there_are_files_alone(tmp_path: Path) -> None:
    out = io.StringIO()
    made = replace(result(), export_command=EXPORT)
    Console(made.plan, 40, stream=out).answer(made, tmp_path)
    write_report(made, tmp_path)
    report = (tmp_path / "report.md").read_text("utf-8")
    for text in (out.getvalue(), report):
        assert EXPORT in text
        assert "in Python" not in text
        assert "In Python" not in text


def test_without_a_winner_there_is_nothing_to_use(tmp_path: Path) -> None:
    write_report(result(), tmp_path)
    assert "Use the model" not in (tmp_path / "report.md").read_text("utf-8")
