"""Rung decisions, by hand."""

import pytest

from tuner.records import Decision
from tuner.scheduler import decide, dominates, front_numbers, rank, rungs


def test_rungs() -> None:
    assert rungs(1, 3, 9) == (1, 3)
    assert rungs(1, 3, 10) == (1, 3, 9)
    assert rungs(2, 2, 3) == (2,)
    assert rungs(5, 3, 5) == ()


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (0.1, [], Decision.CONTINUE),  # the first at a rung is the best there
        (0.6, [0.5], Decision.CONTINUE),  # best of two, ceil(2/3) = 1 goes on
        (0.4, [0.5], Decision.PRUNE),
        (0.85, [0.9, 0.8, 0.5], Decision.CONTINUE),  # second of four, ceil(4/3) = 2
        (0.7, [0.9, 0.8, 0.5], Decision.PRUNE),
        (0.5, [0.5], Decision.CONTINUE),  # a tie stands before nobody
    ],
)
def test_best_third_goes_on(value: float, others: list[float], expected: Decision) -> None:
    assert decide(1, (value,), {1: [(o,) for o in others]}, 9, 3) is expected


def test_between_rungs_and_at_the_end() -> None:
    assert decide(2, (0.0,), {}, 9, 3) is Decision.CONTINUE
    assert decide(9, (0.0,), {9: [(1.0,)]}, 9, 3) is Decision.DONE


def test_fronts_by_hand() -> None:
    """(2,2) dominates (1,1); (3,0) and (2,2) and (0,3) do not dominate one another; (1,1) is behind (2,2)."""
    assert dominates((2, 2), (1, 2))
    assert not dominates((2, 2), (2, 2))
    assert front_numbers([(3, 0), (2, 2), (0, 3), (1, 1)]) == [0, 0, 0, 1]


def test_rank_of_several_objectives() -> None:
    """A point in a later front stands behind every point of an earlier one."""
    assert rank((1, 1), [(3, 0), (2, 2), (0, 3)]) == 3
    assert rank((2, 2), [(1, 1)]) == 0
