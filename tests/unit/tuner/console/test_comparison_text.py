"""Runs side by side in the terminal."""

from tests.unit.tuner.report.test_comparison import run, shifted
from tuner.console.comparison_text import comparison_lines
from tuner.report.comparison import RunComparison


def test_the_terminal_has_a_table_for_each_metric() -> None:
    made = RunComparison([run("a"), shifted(run("b", seeds=(1, 2, 3, 4, 5)), 0.02)])
    lines = comparison_lines(made)
    text = "\n".join(lines)
    assert "`" not in text
    heads = [line for line in lines if line.startswith("run  configuration")]
    assert len(heads) == len(made.metrics) > 1
    assert "* not paired: the seeds differ; Welch's interval" in lines
    assert max(map(len, heads)) <= 100
