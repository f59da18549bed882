"""The verdict, by numbers worked by hand."""

import math

import pytest

from search_spaces.study import Floor
from tests.unit.study_results import CLAIM, arm, plan, realistic, record, result
from tuner.analysis.metric_text import (
    difference_text,
    duration,
    floor_text,
    interval_bounds,
    interval_text,
    metric_label,
)
from tuner.analysis.results import Interval, interval
from tuner.analysis.verdict import ComparisonOutcome, Level, outcome, paired_comparison, strongest, verdict

T4 = 2.7764451051977987  # t(.975, 4)


def judged(*arms):
    return verdict(result(best=record(), records=(record(),), arms=arms))


def test_interval_golden():
    found = interval((1, 2, 3))
    assert found.mean == 2
    assert found.half == pytest.approx(2.4842, abs=1e-4)
    assert math.isnan(interval((1.0,)).half)
    assert interval(()).n == 0


def test_comparison_is_separated_only_if_the_intervals_lie_apart():
    base = (0.70, 0.71, 0.72)  # 0.71 ± 0.0248
    near, apart = (0.74, 0.75, 0.76), (0.77, 0.78, 0.79)
    assert not paired_comparison(arm("best", near), arm("oe", base), CLAIM).separated
    ahead = paired_comparison(arm("best", apart), arm("oe", base), CLAIM)
    assert ahead.separated
    assert ahead.difference.mean == pytest.approx(0.07)


def test_separated():
    found = judged(arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82)))
    assert found.level is Level.SUPPORTED
    assert "do not overlap" in found.sentences[0]
    assert found.sentences[0].startswith(
        "The winner beats the baseline oe by 10.0 ± 0.0 points in robust AUROC"
    )
    assert "No control was run" in found.text


def test_paired_only():
    # seeds differ widely (sd .0158 -> ± .0196), but the winner is .010 ± .00088 ahead on each of them
    base = (0.80, 0.81, 0.82, 0.83, 0.84)
    ours = tuple(b + d for b, d in zip(base, (0.009, 0.010, 0.011, 0.010, 0.010), strict=True))
    found = judged(arm("best", ours), arm("oe", base))
    assert found.level is Level.PARTLY
    assert "excludes 0" in found.text
    assert "overlap" in found.text
    difference = paired_comparison(arm("best", ours), arm("oe", base), CLAIM).difference
    assert difference.half == pytest.approx(T4 * math.sqrt(0.5e-6) / math.sqrt(5), rel=1e-6)


def test_no_difference():
    found = judged(arm("best", (0.80, 0.82, 0.81)), arm("oe", (0.81, 0.80, 0.82)))
    assert found.level is Level.REFUTED
    assert "does not beat" in found.text
    assert "includes 0" in found.text


def test_identical_arms_show_no_difference():
    found = judged(arm("best", (0.8, 0.8, 0.8)), arm("oe", (0.8, 0.8, 0.8)))
    assert found.level is Level.REFUTED


def test_worse():
    found = judged(arm("best", (0.70, 0.71, 0.72)), arm("oe", (0.80, 0.81, 0.82)))
    assert found.level is Level.REFUTED
    assert "is worse than the baseline oe" in found.text


def test_a_control_that_may_do_as_well_leaves_the_claim_not_shown():
    found = judged(
        arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82)), arm("gauss", (0.91, 0.90, 0.92))
    )
    assert found.level is Level.EXPLAINED
    assert found.explained_by == ("gauss",)
    assert found.sentences[:2] == (
        "The winner beats the baseline oe by 10.0 ± 0.0 points in robust AUROC (ε 0.1), near OOD: 91.0 ± 2.5 % against "
        "81.0 ± 2.5 % over 3 fresh seeds, 95 % intervals that do not overlap.",
        "But the control gauss gains +10.0 ± 2.5 points over oe as well, and the winner is not ahead of it (+0.0 ± 2.5 "
        "points): that the method is the cause is not shown.",
    )
    assert found.deciding == 2


def test_a_control_with_part_of_the_gain_is_named():
    found = judged(
        arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82)), arm("gauss", (0.85, 0.86, 0.87))
    )
    assert found.level is Level.SUPPORTED
    assert "gains +5.0 ± 0.0 points over oe too: that part of the gain has another cause" in found.text


def test_a_noisy_control_leaves_the_cause_open():
    found = judged(
        arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82)), arm("gauss", (0.60, 0.99, 0.80))
    )
    assert found.level is Level.SUPPORTED
    assert "stays open" in found.text


def test_every_baseline_must_be_beaten():
    found = judged(
        arm("best", (0.90, 0.91, 0.92)),
        arm("oe", (0.80, 0.81, 0.82)),
        arm("trades", (0.91, 0.90, 0.92), role="baseline"),
    )
    assert found.level is Level.REFUTED
    assert found.sentences[0].startswith("The winner does not beat the baseline trades")  # it decides
    baselines = [arm("oe", (0.8, 0.8)), arm("trades", (0.9, 0.9), role="baseline")]
    assert strongest(baselines, CLAIM).name == "trades"
    assert strongest(baselines, "test/fpr95_id_pos/far").name == "oe"  # neither is measured: the first


def test_missing_baseline():
    found = judged(arm("best", (0.90, 0.91, 0.92)), arm("gauss", (0.8, 0.8, 0.8)))
    assert found.level is Level.OPEN
    assert "no baseline was retrained" in found.text


def test_one_seed_gives_no_verdict():
    found = judged(arm("best", (0.95,)), arm("oe", (0.80,)))
    assert found.level is Level.OPEN
    assert "one seed only" in found.text
    assert "nan" not in found.text.lower()


def test_a_seed_without_value_is_left_out_of_its_pair():
    ours, theirs = arm("best", (0.9, math.nan, 0.92, 0.91)), arm("oe", (0.8, 0.8, math.nan, 0.81))
    comparison = paired_comparison(ours, theirs, CLAIM)
    assert comparison.difference.n == 2
    assert outcome(comparison) is ComparisonOutcome.SEPARATED
    assert paired_comparison(ours, arm("oe", (math.nan,) * 4), CLAIM) is None


def test_arms_of_unequal_length_are_not_paired():
    found = judged(arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81)))
    assert found.level is Level.OPEN
    assert "share no seed" in found.text


def test_without_confirm_nothing_is_claimed():
    best = record()
    found = verdict(result(best=best, records=(best,), tests={best.key: {CLAIM: 0.93}}))
    assert found.level is Level.OPEN
    assert "confirm stage was not run" in found.text
    assert "93.0 %" in found.text
    assert "--stages confirm,report" in found.text


@pytest.mark.parametrize(
    ("stages", "says"), [("search,confirm,report", "is not over"), ("search,report", "was not run")]
)
def test_what_is_still_to_come_is_not_asked_for(stages: str, says: str):
    """A run that goes on runs its confirm stage by itself; one that was started without it does not."""
    best = record()
    study = plan(stages=tuple(stages.split(",")))
    found = verdict(result(plan=study, best=best, records=(best,), underway=True))
    assert f"The confirm stage {says}" in found.text
    assert ("--resume" in found.text) == (says == "was not run")


def test_without_a_winner():
    assert "no trial of the search is complete" in verdict(result()).text
    below = result(records=(record(),))
    assert "none of the 1 complete trials meets the floors" in verdict(below).text


def test_lower_is_better_turns_the_reading():
    metric = "test/fpr95_id_pos/far"
    found = verdict(
        result(
            plan=plan(headline=(metric,)),
            best=record(),
            arms=(
                arm("best", (0.10, 0.11, 0.12), metric=metric),
                arm("oe", (0.2, 0.21, 0.22), metric=metric),
            ),
        )
    )
    assert found.level is Level.SUPPORTED
    assert "beats the baseline oe by 10.0 ± 0.0 points in FPR95" in found.text


def test_what_the_winner_pays_is_said():
    clean = "test/accuracy/clean"
    best, base = arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82))
    best = type(best)("best", "search", "", {}, {**best.values, clean: (0.90, 0.91, 0.90)})
    base = type(base)("oe", "baseline", "", {}, {**base.values, clean: (0.98, 0.99, 0.98)})
    assert "It is worse in clean accuracy (-8.0 ± 0.0 points against oe)." in judged(best, base).text


def test_realistic_result_has_a_verdict():
    found = verdict(realistic())
    assert found.level is Level.SUPPORTED
    assert (
        "over oe too: that part of the gain has another cause, and the winner's own part is +" in found.text
    )
    assert found.accuracy in found.sentences
    assert found.accuracy == (
        "Clean accuracy: 98.4 ± 0.8 % against 99.1 (97.6–100.0) % (-0.7 ± 1.9 points: no loss is shown, one of up to "
        "2.6 is not ruled out)."
    )


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("test/robust_auroc_0.1/near", "robust AUROC (ε 0.1), near OOD"),
        ("val/robust_auroc_0.1/all", "validation robust AUROC (ε 0.1), all OOD sets"),
        ("test/accuracy/robust_0.15", "accuracy under attack (ε 0.15)"),
        ("test/accuracy/corrupted", "accuracy on corruptions"),
        ("test/accuracy/corrupted/shot_noise", "accuracy on shot noise"),
        ("test/energy/auroc/near", "AUROC by energy, near OOD"),
        ("train/loss", "training loss"),
        ("test/mce/off_noise", "mean corruption error without the noises (mCE, %)"),
        ("gpu_seconds", "GPU time"),
    ],
)
def test_metric_labels(metric, words):
    assert metric_label(metric) == words


def test_numbers():
    assert interval_text("test/auroc/near", Interval(0.901, 0.0172, 5)) == "90.1 ± 1.7 %"
    assert interval_text("test/auroc/near", Interval(0.901, math.nan, 1)) == "90.1 %"
    assert interval_text("test/auroc/near", Interval(math.nan, math.nan, 0)) == "-"
    assert interval_text("test/auroc/near", Interval(0.99, 0.015, 5)) == "99.0 (97.5–100.0) %"
    assert interval_text("test/auroc/near", Interval(0.9999, 0.0003, 5)) == "100.0 ± 0.0 %"
    assert interval_text("test/fpr95_id_pos/far", Interval(0.01, 0.02, 2)) == "1.0 (0.0–3.0) %"
    assert interval_text("test/mce", Interval(70.5, 1.25, 5)) == "70.5 ± 1.2"
    assert interval_bounds("test/auroc/near", Interval(0.99, 0.015, 5)) == (0.975, 1.0)
    assert all(map(math.isnan, interval_bounds("test/auroc/near", Interval(0.9, math.nan, 1))))
    assert difference_text("test/accuracy/clean", Interval(-0.013, 0.005, 5)) == "-1.3 ± 0.5 points"
    assert [duration(s) for s in (1.25, 59.99, 61, 3725)] == [
        "1.2 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 02 min",
    ]


def test_floors_in_words():
    clean = "val/accuracy/clean"
    below = Floor(clean, below_reference=0.01)
    assert floor_text(Floor(clean, at_least=0.9), {}) == "validation clean accuracy at least 90.0 %"
    known = "validation clean accuracy at least 97.5 % (1 point below the pretrained classifier's)"
    assert floor_text(below, {clean: 0.985}) == known
    assert (
        floor_text(below, {}) == "validation clean accuracy at most 1 point below the pretrained classifier's"
    )
    assert "0.5 points below" in floor_text(Floor(clean, below_reference=0.005), {})
