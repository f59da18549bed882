"""What is sorted once and kept, against the same question asked of all curves anew."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from tuner.search.learning_curves import LearningCurves, average, rank

VALUES = st.floats(-2, 2).map(lambda value: round(value, 1))  # with ties


def grown(lengths: list[int], values: list[float]) -> list[dict[int, tuple[float, ...]]]:
    pool = iter(values * 8)
    return [{epoch: (next(pool),) for epoch in range(1, length + 1)} for length in lengths]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=7), st.lists(VALUES, min_size=5, max_size=20), VALUES)
def test_standing_is_that_among_all_who_have_got_there(
    lengths: list[int], values: list[float], asked: float
) -> None:
    """Asked after every epoch of every trial, so that each list grows in pieces."""
    curves, seen = LearningCurves(), []
    for number, curve in enumerate(grown(lengths, values)):
        seen.append({})
        for epoch, point in curve.items():
            curves.add(number, epoch, point)
            seen[-1][epoch] = point
            for at in range(1, 5):
                there = [c for c in seen if at in c]
                assert curves.count(at) == len(there)
                assert curves.before(at, (asked,)) == rank((asked,), [c[at] for c in there])
                if there:
                    median = statistics.median(average(c, at)[0] for c in there)
                    assert curves.most_average_above(at, (asked,)) == (asked < median)
        assert curves.curve(number) == curve


def test_several_objectives_by_fronts() -> None:
    """(2,2) is behind nobody; (1,1) is behind (2,2); at epoch 2 only one has arrived."""
    curves = LearningCurves([{1: (2.0, 2.0), 2: (0.0, 0.0)}, {1: (0.0, 1.0)}])
    assert curves.before(1, (1.0, 1.0)) == 1
    assert curves.before(1, (3.0, 2.0)) == 0
    assert (curves.count(1), curves.count(2), curves.count(3)) == (2, 1, 0)
    assert curves.before(2, (-1.0, -1.0)) == 1


def test_average_stops_at_the_epoch() -> None:
    """(0.2 + 0.6) / 2; the 9 at epoch 3 is not looked at."""
    assert average({1: (0.2,), 2: (0.6,), 3: (9.0,)}, 2) == (0.4,)
