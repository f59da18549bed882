"""What controls show of the winner's lead: paired, adding up, the one closest to the winner first."""

import pytest

from tests.unit.study_results import CLAIM, arm, plan, result
from tuner.analysis.control_shares import control_shares

BEST, OE = arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82))


def test_shares_golden() -> None:
    gauss, signs = arm("gauss", (0.82, 0.82, 0.85)), arm("signnoise", (0.81, 0.83, 0.83))
    found = control_shares(result(arms=(BEST, OE, signs, gauss)))
    assert [share.control.name for share in found] == ["gauss", "signnoise"]
    assert found[0].shown.mean == pytest.approx(0.02)  # (.02 + .01 + .03) / 3
    assert found[0].beyond.mean == pytest.approx(0.08)  # (.08 + .09 + .07) / 3
    for share in found:
        assert share.baseline.name == "oe"
        assert share.shown.mean + share.beyond.mean == pytest.approx(0.10)


def test_the_strongest_baseline_counts_in_the_direction_of_the_metric() -> None:
    metric = "test/fpr95_id_pos/far"
    arms = (
        arm("best", (0.10, 0.11), metric=metric),
        arm("oe", (0.30, 0.31), metric=metric),
        arm("trades", (0.20, 0.21), role="baseline", metric=metric),
        arm("near", (0.12, 0.13), metric=metric),
        arm("far", (0.18, 0.19), metric=metric),
    )
    found = control_shares(result(plan=plan(headline=(metric,)), arms=arms))
    assert [(share.baseline.name, share.control.name) for share in found] == [
        ("trades", "near"),
        ("trades", "far"),
    ]
    assert found[0].shown.mean == pytest.approx(-0.08)


def test_what_cannot_be_compared_is_left_out() -> None:
    assert control_shares(result(arms=(BEST, arm("gauss", (0.8, 0.8, 0.8))))) == []  # no baseline
    assert control_shares(result(arms=(OE, arm("gauss", (0.8, 0.8, 0.8))))) == []  # no winner
    nan = arm("gauss", (float("nan"),) * 3)
    other_seeds = arm("signnoise", (0.8, 0.81))
    unmeasured = arm("gauss", (0.8,) * 3, metric="test/auroc/near")
    assert control_shares(result(arms=(BEST, OE, nan, other_seeds, unmeasured))) == []
    assert CLAIM in BEST.values
