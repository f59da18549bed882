"""The report's table of trainings that are judged by their best epoch: the claim's metric there and after the last."""

from collections.abc import Sequence
from dataclasses import replace

from tuner.analysis.metric_text import difference_text, interval_text, metric_label
from tuner.analysis.results import ArmResult, StudyResult, interval
from tuner.analysis.verdict import claim_metric, paired_differences
from tuner.report.blocks import Block, Table, Text

_NOTE = (
    "An epoch is chosen on validation data, so its test value is as honest as that of the last. Where the last is "
    "clearly behind, training went on for too long (robust overfitting): a shorter schedule gives as much."
)


def best_and_last_epoch(result: StudyResult) -> list[Block]:
    """Return every arm after the epochs that it is judged by and after the last; [] where those are the same choice."""
    metric = claim_metric(result.plan)
    rows = [_row(arm, metric) for arm in result.arms if arm.after_last.get(metric)]
    if not rows:
        return []
    header = ("configuration", "best epochs", "best epoch", "last epoch", "difference")
    title = f"Best epoch and last, of {result.plan.max_epochs}: {metric_label(metric)}"
    return [Table(header, rows, words=frozenset({0, 1}), title=title), Text(_NOTE, "note")]


def _row(arm: ArmResult, metric: str) -> Sequence[str]:
    best, last = arm.values[metric], arm.after_last[metric]
    after_last = replace(arm, values=arm.after_last)
    return (
        arm.label,
        ", ".join(map(str, arm.epochs)),
        interval_text(metric, arm.seed_interval(metric)),
        interval_text(metric, after_last.seed_interval(metric)),
        difference_text(metric, interval(paired_differences(best, last))),
    )
