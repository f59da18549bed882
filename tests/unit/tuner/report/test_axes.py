"""Axes: where values stand, and round ticks, by hand."""

import math

import pytest

from search_spaces.domain import Choice, Float, Int
from tuner.report.axes import count_axis, metric_axis, nice_ticks, parameter_axis, span_axis
from tuner.report.svg import dots, line, steps


def test_places() -> None:
    log = parameter_axis("lr", Float(0.01, 1.0, log=True))
    assert log.place(0.1) == pytest.approx(0.5)
    assert (log.place(None), log.place(math.nan), log.place(-1.0), log.place("x")) == (None,) * 4
    assert log.place(10) == 1.02  # outside: at the edge
    choice = parameter_axis("attack", Choice(("a", True, 3)))
    assert [choice.place(v) for v in ("a", True, "True", 3)] == pytest.approx([1 / 6, 0.5, 0.5, 5 / 6])
    assert choice.place("b") is None
    assert choice.ticks == ((1 / 6, "a"), (0.5, "True"), (5 / 6, "3"))


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.72, 0.93, 5, [0.75, 0.8, 0.85, 0.9]),
        (-3, 3, 3, [-2, 0, 2]),
        (5, 5, 3, [5]),
    ],
)
def test_nice_ticks(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, most) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("domain", "ticks"),
    [
        (Float(0.25, 4.0, log=True), ["0.5", "1", "2"]),
        (Float(3e-4, 1e-2, log=True), ["0.0005", "0.001", "0.002", "0.005", "0.01"]),
        (Float(1e-6, 1e-1, log=True), ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"]),
        (Float(1.1, 1.9, log=True), ["1.1", "1.9"]),
        (Int(2, 10), ["2", "4", "6", "8", "10"]),
        (Int(1, 3), ["1", "2", "3"]),
        (Int(1, 1000, log=True), ["1", "10", "100", "1000"]),
    ],
)
def test_ticks_of_ranges(domain: Float | Int, ticks: list[str]) -> None:
    assert [text for _, text in parameter_axis("x", domain).ticks] == ticks


def test_a_metric_axis_stays_in_the_metrics_range_and_is_not_squashed_by_a_few() -> None:
    axis = metric_axis("test/auroc/near", [0.9, 1.0])
    assert (axis.low, axis.high) == (pytest.approx(0.896), 1.0)
    assert axis.ticks[-1] == (1.0, "100 %")
    many = [0.9 + n / 1000 for n in range(40)] + [0.1]
    assert metric_axis("test/auroc/near", many).low > 0.85
    assert metric_axis("test/auroc/near", many, keep=[0.1]).low < 0.1
    assert metric_axis("test/auroc/near", [0.1, 0.9]).low < 0.1  # of few values each counts
    for values in ([], [0.5], [math.nan], [1.0, 1.0]):
        axis = metric_axis("test/auroc/near", values)
        assert axis.low < axis.high
        assert axis.place(axis.low) == 0


def test_other_axes() -> None:
    assert [text for _, text in count_axis("epoch", 1, 9).ticks] == ["2", "4", "6", "8"]
    assert count_axis("epoch", 1, 1).place(1) == 0
    assert [text for _, text in span_axis("test/mce", 60, 80, 4).ticks] == ["60", "70", "80"]


def test_paths() -> None:
    assert dots([(0, 0), (0.5, 1)]) == "M0 1000h0M500 0h0"
    assert line([(0, 0), (0.5, 1), (1, 0.25)]) == "M0 1000 500 0 1000 750"
    assert line([(0.5, 0.5)]) == "M500 500h14"
    assert line([]) == steps([]) == ""
    assert steps([(0, 0), (0.5, 1)]) == "M0 1000H500V0"
