"""Runs side by side: pairing by seed, Welch's interval, and what must not be compared."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from scipy import stats

from tests.unit.study_results import CLAIM, plan, record, result
from trainables.base.errors import InputError
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.analysis.comparison import (
    DECIDES,
    NAMED,
    DataSource,
    Entry,
    check_same_data,
    compared_metrics,
    difference,
    entries_of,
    obstacle,
    plan_differences,
    welch,
)
from tuner.analysis.results import ArmResult
from tuner.analysis.verdict import ComparisonOutcome, outcome

CLEAN, NEAR = "test/accuracy/clean", "test/auroc/near"


def entry(
    values: dict[int, float],
    run: str = "a",
    metric: str = CLAIM,
    more: dict[str, Any] | None = None,
    **protocol: Any,
) -> Entry:
    """Return the winner of a run with these values by seed."""
    measured = {metric: tuple(values.values()), **(more or {})}
    arm = ArmResult("best", "confirm", "", {}, measured, 1.0, tuple(values))
    return Entry(run, DataSource("digits-open"), EvaluationProtocol("test", **protocol), arm, True)


def test_shared_seeds_are_paired_whatever_their_order() -> None:
    made = difference(entry({1: 0.5, 2: 0.7, 9: 0.1}), entry({2: 0.6, 1: 0.3}, "b"), CLAIM)
    assert made.paired
    assert made.shared == 2
    assert made.interval.mean == pytest.approx(0.15)  # 0.2 and 0.1; seed 9 has no partner
    assert made.interval.half == pytest.approx(stats.t.ppf(0.975, 1) * 0.05)


def test_other_seeds_are_compared_with_welchs_interval() -> None:
    made = difference(entry({1: 0.1, 2: 0.2, 3: 0.3}), entry({4: 0.2, 5: 0.4, 6: 0.6}, "b"), CLAIM)
    assert not made.paired
    assert made.interval.mean == pytest.approx(-0.2)
    # variances 0.01 and 0.04, three values each: error^2 = 0.05/3, 50/17 degrees of freedom
    assert made.interval.half == pytest.approx(stats.t.ppf(0.975, 50 / 17) * math.sqrt(0.05 / 3))
    assert outcome(made.comparison) is ComparisonOutcome.SAME


def test_one_value_has_no_interval_and_equal_values_one_of_no_width() -> None:
    assert math.isnan(welch([0.5], [0.4, 0.6]).half)
    assert welch([0.5, 0.5], [0.4, 0.4]).half == 0
    assert welch([], [0.4]).n == 0
    single = difference(entry({1: 0.9}), entry({1: 0.5}, "b"), CLAIM)
    assert outcome(single.comparison) is ComparisonOutcome.UNKNOWN


def test_a_seed_that_failed_is_left_out() -> None:
    made = difference(entry({1: math.nan, 2: 0.7, 3: 0.8}), entry({1: 0.3, 2: 0.6, 3: 0.7}, "b"), CLAIM)
    assert (made.shared, made.interval.mean) == (2, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("metric", "protocol", "says"),
    [
        (CLAIM, {"steps": 40}, "measured otherwise: steps 20 and 40"),
        (CLAIM, {"score": "energy"}, "measured otherwise: score msp and energy"),
        ("test/energy/auroc/near", {"score": "energy"}, ""),
        (NEAR, {"steps": 40, "restarts": 3, "margin": False}, ""),
        (CLEAN, {"score": "energy", "steps": 40}, ""),
        (CLEAN, {"max_images": 100}, "measured otherwise: max_images 0 and 100"),
        ("test/accuracy/robust_0.15", {"margin": False}, "measured otherwise: margin True and False"),
        ("test/accuracy/robust_0.15", {"robust_epsilons": (0.15,)}, ""),
        ("test/accuracy/autoattack_0.1", {"auto_attack_images": 10}, "auto_attack_images 1000 and 10"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(
    metric: str, protocol: dict[str, Any], says: str
) -> None:
    ours, theirs = entry({1: 0.5, 2: 0.6}, metric=metric), entry({1: 0.5, 2: 0.6}, "b", metric, **protocol)
    found = obstacle(ours, theirs, metric)
    assert says in found
    assert bool(found) == bool(says)
    made = difference(ours, theirs, metric)
    assert (made.comparison is None) == bool(says)


def test_means_over_other_sets_are_not_compared() -> None:
    sets = {"test/auroc/china": (0.5, 0.5), "test/auroc/rot90": (0.5, 0.5)}
    ours = entry({1: 0.5, 2: 0.6}, metric=NEAR, more=sets)
    theirs = entry({1: 0.5, 2: 0.6}, "b", NEAR, {"test/auroc/china": (0.5, 0.5)})
    assert obstacle(ours, theirs, NEAR) == "a mean over other sets: rot90"
    assert obstacle(ours, ours, NEAR) == ""
    other_family = entry({1: 0.5, 2: 0.6}, "b", NEAR, {**sets, "test/robust_auroc_0.1/blobs": (0.1, 0.1)})
    assert obstacle(ours, other_family, NEAR) == ""
    corrupted = "test/accuracy/corrupted"
    ours = entry({1: 0.5}, metric=corrupted, more={f"{corrupted}/fog": (0.1,)})
    assert "a mean over other sets" in obstacle(ours, entry({1: 0.5}, "b", corrupted), corrupted)


OWN = DataSource("imagefolder", "/a", "v1")


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (OWN, ""),
        (replace(OWN, name="cifar10"), "other data: imagefolder and cifar10"),
        (replace(OWN, folder="/b"), ""),  # the same content, moved or copied
        (replace(OWN, folder="/b", version="v2"), "other data: /a and /b"),
        (replace(OWN, folder="/b", version=""), "other data: /a and /b"),
        (replace(OWN, version=""), ""),
        (replace(OWN, version="v2"), "the data have changed between the two runs"),
        (replace(OWN, version="v2", corrupted=True), ""),  # the hash counts corruptions in
    ],
)
def test_other_data_are_told_apart(theirs: DataSource, says: str) -> None:
    assert OWN.differs(theirs) == says
    assert bool(theirs.differs(OWN)) == bool(says)
    ours = entry({1: 0.5})
    assert obstacle(replace(ours, data=OWN), replace(ours, data=theirs), CLAIM) == says


def test_a_missing_metric_is_told() -> None:
    assert obstacle(entry({1: 0.5}), entry({1: 0.5}, "b", NEAR), CLAIM) == "not measured in b"


def test_every_field_of_a_protocol_is_known_to_decide_or_not() -> None:
    assert sorted((*DECIDES, *NAMED)) == sorted(f.name for f in fields(EvaluationProtocol))


def test_entries_are_the_arms_or_the_winner_alone() -> None:
    best = record(3, (0.8,), seed=77)
    alone = result(records=(best,), best=best, tests={best.key: {CLAIM: 0.9}})
    (one,) = entries_of(alone)
    assert (one.confirmed, one.arm.seeds, one.arm.values) == (False, (77,), {CLAIM: (0.9,)})
    arms = (ArmResult("best", "confirm", "", {}, {CLAIM: (0.9,)}, 1.0, (1,)),
            ArmResult("oe", "baseline", "", {}, {CLAIM: (0.8,)}, 1.0, (1,)))  # fmt: skip
    both = entries_of(replace(alone, arms=arms))
    assert [(e.arm.name, e.confirmed) for e in both] == [("best", True), ("oe", True)]
    assert both[0].protocol == alone.plan.test_protocol("confirm", "best")
    assert entries_of(result()) == []


def test_metrics_are_compared_that_two_runs_have() -> None:
    first = result(plan=plan(run_name="a", headline=(CLAIM, NEAR)))
    second = result(plan=plan(run_name="b", headline=(CLEAN, CLAIM)))
    entries = [
        entry({1: 0.5}, "a", more={CLEAN: (0.9,), NEAR: (0.5,)}),
        entry({1: 0.5}, "b", more={CLEAN: (0.9,)}),
    ]
    assert compared_metrics([first, second], entries) == [CLAIM, CLEAN]


def test_plans_differ_in_what_was_changed_and_in_nothing_else() -> None:
    first = plan(20, run_name="a")
    second = plan(40, run_name="b", seed=3)
    second = replace(second, confirm={**second.confirm, "steps": 7})
    rows = dict(plan_differences([result(plan=first), result(plan=second)]))
    assert rows["seed"] == [str(first.seed), "3"]
    assert rows["trials"] == ["20", "40"]
    assert rows["evaluation of arms: steps"][1] == "7"
    assert set(rows) == {"seed", "trials", "oe: trials", "evaluation of arms: steps"}
    assert plan_differences([result(plan=first), result(plan=replace(first, run_name="c"))]) == []


def test_runs_of_two_data_sets_are_refused() -> None:
    first, second = result(plan=plan(run_name="a")), result(plan=plan(run_name="b", dataset="cifar10"))
    check_same_data([first, first])
    with pytest.raises(
        InputError, match="runs a and b are of two data sets, digits-open and cifar10: no value"
    ):
        check_same_data([first, second])
