"""Ranks of methods: Holm's procedure by hand, ties that stay ties, and directions."""

from dataclasses import replace

import pytest
from scipy import stats

from tests.unit.study_results import CLAIM, arm, plan, realistic, result
from tuner.analysis.method_ranks import Rank, holm, method_label, methods, ranks

FPR = "test/fpr95_id_pos/far"


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]  # 0.01 <= 0.05/3; 0.03 > 0.05/2
    assert holm([0.04, 0.01, 0.02]) == [True, True, True]  # 0.01 <= 0.0167, 0.02 <= 0.025, 0.04 <= 0.05
    assert holm([0.06]) == [False]
    assert holm([]) == []


def test_methods_that_cannot_be_told_apart_share_ranks() -> None:
    arms = [
        arm("a", (0.90, 0.91, 0.92, 0.90, 0.91)),
        arm("b", (0.70, 0.72, 0.71, 0.69, 0.72)),
        arm("c", (0.71, 0.70, 0.72, 0.70, 0.71)),
    ]
    p = stats.ttest_rel(arms[0].values[CLAIM], arms[1].values[CLAIM]).pvalue
    assert p < 0.05 / 3
    found = ranks(arms, CLAIM)
    assert {name: str(rank) for name, rank in found.items()} == {"a": "1", "b": "2–3", "c": "2–3"}
    assert found["a"].net == 1
    assert found["b"].net == -0.5


def test_smaller_is_better_where_the_metric_says_so() -> None:
    arms = [arm("a", (0.9, 0.91, 0.92), metric=FPR), arm("b", (0.1, 0.12, 0.11), metric=FPR)]
    assert {name: str(rank) for name, rank in ranks(arms, FPR).items()} == {"a": "2", "b": "1"}


def test_many_pairs_need_more_than_one_does() -> None:
    """p = 0.03 for a against b alone: shown as one of one pair, not as one of three."""
    a, b = (0.52, 0.55, 0.50, 0.54, 0.53), (0.50, 0.50, 0.49, 0.53, 0.50)
    p = stats.ttest_rel(a, b).pvalue
    assert 0.05 / 3 < p < 0.05
    pair = [arm("a", a), arm("b", b)]
    assert str(ranks(pair, CLAIM)["a"]) == "1"
    noise = arm("c", (0.1, 0.9, 0.4, 0.6, 0.7))
    assert str(ranks([*pair, noise], CLAIM)["a"]) == "1–3"


def test_a_method_without_the_metric_has_no_rank_and_one_seed_shows_nothing() -> None:
    arms = [arm("a", (0.9,)), arm("b", (0.1,)), arm("c", (0.5,), metric=FPR)]
    assert {name: str(rank) for name, rank in ranks(arms, CLAIM).items()} == {"a": "1–2", "b": "1–2"}


def test_an_equal_difference_on_every_seed_is_shown_and_none_is_a_tie() -> None:
    arms = [arm("a", (0.5, 0.75)), arm("b", (0.25, 0.5)), arm("c", (0.25, 0.5))]
    assert {name: str(rank) for name, rank in ranks(arms, CLAIM).items()} == {
        "a": "1",
        "b": "2–3",
        "c": "2–3",
    }


@pytest.mark.parametrize(
    ("better", "worse", "text"), [(0, 0, "1–4"), (3, 0, "1"), (1, 1, "2–3"), (0, 3, "4")]
)
def test_text_of_a_rank(better: int, worse: int, text: str) -> None:
    assert str(Rank(better, worse, 4)) == text


def test_methods_are_the_arms_with_a_search_of_their_own() -> None:
    made = realistic()
    assert methods(made) == []  # the winner and oe alone; controls are no methods
    lanes = [replace(made.plan.lanes[1], name=name) for name in ("oe", "trades")]
    more = replace(
        made,
        plan=replace(made.plan, lanes=(made.plan.lanes[0], *lanes)),
        arms=(*made.arms, arm("trades", (0.1,) * 5, "baseline")),
    )
    assert [a.name for a in methods(more)] == ["best", "oe", "trades"]
    assert [method_label(more.plan, a) for a in methods(more)] == ["aoe (the study's own)", "oe", "trades"]
    assert methods(result(plan=plan())) == []
