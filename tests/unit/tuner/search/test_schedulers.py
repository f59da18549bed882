"""Stopping rules, by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from trainables.base.errors import InputError
from tuner.base.records import Decision
from tuner.search import schedulers
from tuner.search.learning_curves import Curve, LearningCurves, front_numbers, rank
from tuner.search.schedulers import (
    MEDIAN_TRIALS,
    SCHEDULERS,
    Halving,
    Median,
    NoStopping,
    Schedule,
    SchedulerSpec,
    compared_epochs,
    rungs,
    schedule,
)

ASHA = schedule("asha", 1, 3, 9)
MEDIAN = schedule("median", 2, 3, 9)


def decide(rule: Any, epoch: int, own: Curve, others: Sequence[Curve], max_epochs: int) -> Any:
    return schedulers.decide(rule, epoch, own, LearningCurves(others), max_epochs)


def test_rungs() -> None:
    assert rungs(1, 3, 9) == (1, 3)
    assert rungs(1, 3, 10) == (1, 3, 9)
    assert rungs(2, 2, 3) == (2,)
    assert rungs(5, 3, 5) == ()


def test_schedules_by_name() -> None:
    assert Halving((1, 3), 3, 9) == ASHA
    assert Median(2, 9) == MEDIAN
    assert schedule("none", 1, 3, 9) == NoStopping(9)
    assert (ASHA.rungs, MEDIAN.rungs) == ((1, 3), ())


def test_survivors_by_hand() -> None:
    assert isinstance(ASHA, Halving)
    assert ASHA.survivors(20) == [(1, 20), (3, 7), (9, 3)]
    assert ASHA.survivors(1) == [(1, 1), (3, 1), (9, 1)]


@pytest.mark.parametrize("spec", SCHEDULERS, ids=lambda spec: spec.name)
def test_every_scheduler_ends_a_trial_at_the_last_epoch_and_plans_within_the_budget(
    spec: SchedulerSpec,
) -> None:
    rule = spec.make(1, 3, 9)
    assert decide(rule, 9, {9: (0.0,)}, [{9: (1.0,)}] * 9, 9)[0] is Decision.DONE
    assert 20 <= rule.fewest_epochs(20) <= 180
    assert "to epoch 9" in rule.outlook(20) or "before epoch 9" in rule.outlook(20)


def test_an_unknown_scheduler_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown scheduler 'medium'; did you mean median"):
        schedule("medium", 1, 3, 9)


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
    assert decide(ASHA, 1, {1: (value,)}, [{1: (o,)} for o in others], 9)[0] is expected


def test_between_rungs_and_at_the_end() -> None:
    assert decide(ASHA, 2, {2: (0.0,)}, [{2: (1.0,)}], 9)[0] is Decision.CONTINUE
    for rule in (ASHA, MEDIAN, schedule("none", 1, 3, 9)):
        assert decide(rule, 9, {9: (0.0,)}, [{9: (1.0,)}] * 9, 9)[0] is Decision.DONE


def curves(*averages: float) -> list[dict[int, tuple[float, ...]]]:
    """Return two epochs around each average: the rule must read the mean, not the last or best value."""
    return [{1: (average - 0.2,), 2: (average + 0.2,)} for average in averages]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({1: (0.1,), 2: (0.51,)}, Decision.CONTINUE),  # best .51, median of .3 .4 .5 .6 .7 is .5
        ({1: (0.51,), 2: (0.1,)}, Decision.CONTINUE),  # the best so far counts, not the last
        ({1: (0.1,), 2: (0.49,)}, Decision.PRUNE),
        ({1: (0.5,), 2: (0.5,)}, Decision.CONTINUE),  # equal is not below
    ],
)
def test_below_the_median_of_running_averages_is_stopped(
    own: dict[int, tuple[float, ...]], expected: Decision
) -> None:
    assert MEDIAN_TRIALS == 5
    assert decide(MEDIAN, 2, own, curves(0.7, 0.3, 0.6, 0.4, 0.5), 9)[0] is expected


def test_the_median_of_six_lies_between_the_middle_two() -> None:
    """.3 .4 .5 .6 .7 .8: the median is .55."""
    others = curves(0.8, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert decide(MEDIAN, 2, {1: (0.0,), 2: (0.56,)}, others, 9)[0] is Decision.CONTINUE
    assert decide(MEDIAN, 2, {1: (0.0,), 2: (0.54,)}, others, 9)[0] is Decision.PRUNE


def test_median_spares_the_grace_period_and_the_first_trials() -> None:
    bad = {1: (0.0,), 2: (0.0,)}
    assert MEDIAN.looks_at(1) == ()
    assert list(MEDIAN.looks_at(4)) == [1, 2, 3, 4]
    assert decide(MEDIAN, 1, {1: (0.0,)}, curves(*[0.9] * 9), 9)[0] is Decision.CONTINUE
    assert decide(MEDIAN, 2, bad, curves(*[0.9] * 4), 9)[0] is Decision.CONTINUE
    assert decide(MEDIAN, 2, bad, curves(*[0.9] * 5), 9)[0] is Decision.PRUNE


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        (ASHA, 1),
        (schedule("asha", 4, 3, 9), 4),
        (schedule("asha", 9, 3, 9), None),
        (MEDIAN, 2),
        (schedule("median", 9, 3, 9), None),
        (schedule("none", 1, 3, 9), None),
        (schedule("asha", 10**9, 3, 10**9), None),  # found without a walk over the epochs
        (schedule("none", 1, 3, 10**9), None),
    ],
)
def test_the_first_comparison_of_each_rule(rule: Schedule, first: int | None) -> None:
    assert rule.first == first


def test_the_epochs_whose_objectives_are_read() -> None:
    assert compared_epochs(schedule("asha", 1, 3, 10**9), 10**9)[-2:] == (3**18, 10**9)
    assert compared_epochs(schedule("none", 1, 3, 10**9), 10**9) == (10**9,)
    assert compared_epochs(schedule("median", 2, 3, 4), 4) == (1, 2, 3, 4)


def test_median_of_several_objectives_asks_who_stands_before() -> None:
    """Averages (3,3) (3,3) (2,2) (1,1) (1,1): before (2,1) stand (3,3), (3,3), (2,2): 3 of 5, more than half."""
    others = [{1: p, 2: p} for p in ((3.0, 3.0), (3.0, 3.0), (2.0, 2.0), (1.0, 1.0), (1.0, 1.0))]
    assert decide(MEDIAN, 2, {1: (2.0, 0.0), 2: (0.0, 1.0)}, others, 9)[0] is Decision.PRUNE
    assert decide(MEDIAN, 2, {1: (2.0, 0.0), 2: (0.0, 2.5)}, others, 9)[0] is Decision.CONTINUE


def test_fewest_epochs_by_hand() -> None:
    """asha: 20 * 1 + 7 * 2 + 3 * 6; median, grace 2: 5 * 9 + 15 * 2; none: 20 * 9."""
    assert ASHA.fewest_epochs(20) == 52
    assert MEDIAN.fewest_epochs(20) == 75
    assert MEDIAN.fewest_epochs(3) == 27
    assert schedule("none", 1, 3, 9).fewest_epochs(20) == 180
    assert schedule("median", 20, 3, 9).fewest_epochs(20) == 180


def test_fronts_by_hand() -> None:
    """(2,2) dominates (1,1); (3,0) and (2,2) and (0,3) do not dominate one another; (1,1) is behind (2,2)."""
    assert front_numbers([(3, 0), (2, 2), (0, 3), (1, 1)]) == [0, 0, 0, 1]
    assert front_numbers([(1, 1), (2, 2), (3, 3), (3, 3)]) == [2, 1, 0, 0]


def test_rank_of_several_objectives() -> None:
    """A point in a later front stands behind every point of an earlier one."""
    assert rank((1, 1), [(3, 0), (2, 2), (0, 3)]) == 3
    assert rank((2, 2), [(1, 1)]) == 0


def test_rank_within_a_front_by_the_sum_of_ranks() -> None:
    """One front: (4,0), (3,3), (0,4). First objective above 2, 1, 0 of them, second above 0, 1, 2: all 2, a tie.

    With (3,1), which is behind (3,3): sums 3+0, 1+2, 0+3 and 1+1; it stands behind all three.
    """
    assert rank((4, 0), [(3, 3), (0, 4)]) == 0
    assert rank((3, 1), [(4, 0), (3, 3), (0, 4)]) == 3
    assert rank((4, 0), [(3, 1), (3, 3), (0, 4)]) == 0
