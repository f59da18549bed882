"""Builds the report of a study: its sections in order, written as page, Markdown, JSON and CSV files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.base.storage import Folder
from tuner.analysis.results import StudyResult
from tuner.report import evaluation, search
from tuner.report.answer import answer, cautions, controls, headline_metrics
from tuner.report.best_epoch import best_and_last_epoch
from tuner.report.blocks import Block
from tuner.report.cost import cost
from tuner.report.csv_tables import arms_csv, trials_csv
from tuner.report.data import ReportData, report_data, to_json
from tuner.report.making import reproduce, use_of_the_model
from tuner.report.markdown import to_markdown
from tuner.report.markup import Markup
from tuner.report.methods import methods_compared
from tuner.report.page import to_page


def write_report(result: StudyResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, report.json, trials.csv and arms.csv, each atomically, and return their paths.

    Sections that the result has no data for (no confirm stage, no complete trial) are left out; the answer says so.
    """
    target = Folder(folder)
    files = report_files(result)
    for name, text in files.items():
        target.write(name, text.encode("utf-8"))
    return [folder / name for name in files]


def report_files(result: StudyResult) -> Mapping[str, str]:
    """Return {file: text}."""
    data = report_data(result)
    blocks, plan = report_blocks(result, data), result.plan
    return {
        "report.html": report_page(result, data, blocks),
        "report.md": to_markdown(f"{plan.study}: {plan.question}", blocks),
        "report.json": to_json(data),
        "trials.csv": trials_csv(result),
        "arms.csv": arms_csv(result),
    }


def report_page(
    result: StudyResult, data: ReportData, blocks: Sequence[Block], live: Markup | None = None
) -> str:
    """Return report.html; see `to_page` for `live`."""
    plan = result.plan
    kicker = f"{plan.study} on {plan.dataset} · run {plan.run_name} · {data.study['made']}"
    return to_page(plan.question, kicker, blocks, to_json(data), live)


def report_blocks(result: StudyResult, data: ReportData) -> list[Block]:
    """Return all sections of the report as blocks."""
    return [
        *answer(result),
        *cautions(result),
        *controls(result),
        *methods_compared(result),
        *headline_metrics(result),
        *best_and_last_epoch(result),
        *search.ranges(result, data),
        *search.explore(result, data),
        *search.trials(result, data),
        *search.validation_and_test(result, data),
        *evaluation.by_set(result),
        *search.efficiency(result, data),
        *evaluation.scores(result, data),
        *cost(result),
        *use_of_the_model(result),
        *reproduce(result),
    ]
