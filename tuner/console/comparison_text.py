"""Several runs side by side in the terminal: metric by metric, each arm and its difference to the first run's."""

from tuner.analysis.metric_text import interval_text, metric_label
from tuner.base.text import aligned
from tuner.report.comparison import RunComparison, difference_cell, runs_table, winners_table


def comparison_lines(made: RunComparison) -> list[str]:
    """Return who leads, what cannot be compared, a table for each metric, the winners' settings and the runs."""
    lines = [_plain(line) for line in (*made.sentences(), *(f"{line}." for line in made.obstacles()))]
    first = made.names[0]
    minus = {(d.ours.run, d.ours.arm.name, d.metric): d for row in made.differences for d in row}
    for metric in made.metrics:
        rows = [("run", "configuration", metric_label(metric), f"minus {first}")]
        for entry in made.entries:
            own, one = entry.arm.seed_interval(metric), minus.get((entry.run, entry.arm.name, metric))
            minus_first = difference_cell(one) if one else ""
            rows.append((entry.run, entry.arm.label, interval_text(metric, own), minus_first))
        lines += ["", *aligned(rows, frozenset({0, 1}))]
    if any(not d.paired and not d.obstacle for d in minus.values()):
        lines.append("* not paired: the seeds differ; Welch's interval")
    settings, runs = winners_table(made), runs_table(made)
    if settings.rows:
        lines += ["", *(_plain(line) for line in aligned([settings.header, *settings.rows]))]
    return [*lines, "", *aligned([runs.header, *runs.rows], runs.words)]


def _plain(text: str) -> str:
    return text.replace("`", "")
