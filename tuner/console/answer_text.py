"""The end of a run in the terminal: the winner, its metrics beside the arms', the verdict; then where to look."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tuner.analysis.checks import checks
from tuner.analysis.metric_text import interval_text, metric_label, setting_text, value_text
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import headline, verdict
from tuner.base.text import aligned


class Link(NamedTuple):
    """An address to be shown: as it is, or as words that lead there where a terminal knows links."""

    name: str
    url: str


class Prose(str):
    """Sentences, which a screen may break between words; any other text is a table, a command or code."""


Line = str | Link


def answer_lines(
    result: StudyResult, folder: Path, failure: str = "", width: int | None = None
) -> list[Line]:
    """Return the lines of the answer.

    Args:
        failure: why the study has failed, if it has; it is the last line of the launch and takes the verdict's place.
        width: of the screen in characters; a table that does not fit is stacked. None never stacks.
    """
    judged = verdict(result)
    lines: list[Line] = ["", Prose(f"== {result.plan.question}")]
    if result.best is not None and not result.plan.trains_one:
        lines += [f"winner: trial {result.best.number}"]
        lines += [f"  {key} = {setting_text(value)}" for key, value in result.best.params.items()]
    lines += _metrics(result, width)
    lines += ["", Prose(f"claim {judged.level.value}: {result.plan.claim}")] if result.plan.claim else [""]
    lines += [] if failure else [Prose(f"  {sentence}") for sentence in judged.sentences]
    lines += [Prose(f"caution: {sentence}") for check in checks(result) for sentence in check.findings]
    lines += [Prose(f"note: {problem}") for problem in result.problems]
    name = "the network" if result.plan.trains_one else "the winner"
    if result.model_lines:
        lines += ["", f"{name} as a model, in Python:", *(f"  {line}" for line in result.model_lines)]
    if result.export_command:
        lines += ["", f"{name} as files:", f"  {result.export_command}"]
    lines += ["", f"report: {folder / 'report.html'}"]
    if result.ui_command:
        lines.append(f"MLflow: {result.ui_command}")
    lines += [Link(name, url) for name, url in result.links.items()]
    return lines


def _metrics(result: StudyResult, width: int | None) -> list[str]:
    """Return the headline metrics by arm, or of the winner's one training: as a table, or stacked."""
    metrics = headline(result.plan)
    if result.arms:
        heads = [arm.label for arm in result.arms]
        rows = [
            [metric_label(m), *(interval_text(m, arm.seed_interval(m)) for arm in result.arms)]
            for m in metrics
        ]
        seeds = max(arm.seed_interval(m).n for arm in result.arms for m in metrics)
        note = (
            f"mean and 95 % interval over {seeds} fresh seeds" if seeds > 1 else "one fresh seed, no interval"
        )
    else:
        tests = result.tests.get(result.best.key, {}) if result.best else {}
        heads = [result.plan.method if result.plan.trains_one else "winner"]
        rows = [[metric_label(m), value_text(m, tests.get(m))] for m in metrics]
        note = "one seed, no interval"
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    if not rows:
        return []
    table = [f"  {line}" for line in aligned([["test metric", *heads], *rows])]
    if width is not None and max(map(len, table)) > width:
        table = _stacked(heads, rows)
    return ["", *table, f"  ({note})"]


def _stacked(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return each metric as a heading with a line for every arm below it."""
    lines = []
    for label, *values in rows:
        pairs = aligned(list(zip(heads, values, strict=True)))
        lines += [f"  {label}", *(f"    {pair}" for pair in pairs)]
    return lines
