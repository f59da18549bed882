"""The page of several runs: what it says of winners, marks, its files, and nothing that could be run or loaded."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.study_results import CLAIM, arm, realistic
from tuner.analysis.results import StudyResult
from tuner.report.comparison import RunComparison, comparison_files

NOW = datetime(2026, 11, 30, 12, 5, tzinfo=UTC)
SEEDS = (11, 12, 13, 14, 15)


def run(name: str, seed: int = 0, seeds: Sequence[int] = SEEDS, **changes: Any) -> StudyResult:
    made = realistic(seed=seed)
    arms = tuple(replace(a, seeds=tuple(seeds)) for a in made.arms)
    return replace(made, arms=arms, plan=replace(made.plan, run_name=name, **changes))


def shifted(made: StudyResult, by: float) -> StudyResult:
    """Return a result whose winner is better by so much on every seed, a little differently each time."""
    best, *others = made.arms
    values = {m: tuple(v + by + 0.001 * i for i, v in enumerate(vs)) for m, vs in best.values.items()}
    return replace(made, arms=(replace(best, values=values), *others))


def test_a_better_winner_is_said_with_its_paired_difference() -> None:
    made = RunComparison([run("a"), shifted(run("b"), 0.02)])
    (sentence,) = made.sentences()
    assert sentence.startswith("The winner of `b` beats that of `a` in robust AUROC (ε 0.1), near OOD: ")
    assert sentence.endswith(
        "difference +2.2 ± 0.2 points, paired over 5 shared seeds."
    )  # 2.0 to 2.4: t(4) x 0.071
    assert made.obstacles() == []


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (shifted(run("b"), -0.05), "The winner of `b` is worse than that of `a`"),
        (run("b"), "No difference is shown between the winners of `b` and `a`"),
        (shifted(run("b", seeds=(1, 2, 3, 4, 5)), 0.02), "not paired, for their seeds differ (Welch)"),
    ],
)
def test_what_else_may_be_said(second: StudyResult, says: str) -> None:
    (sentence,) = RunComparison([run("a"), second]).sentences()
    assert says in sentence


def test_a_run_without_a_confirm_stage_is_marked() -> None:
    second = replace(run("b"), arms=())
    made = RunComparison([run("a"), second])
    assert "without several seeds there is no interval" in made.sentences()[0]
    assert made.sentences()[1].startswith("`b` has no confirm stage: its winner is the best of many")


def test_another_protocol_is_marked_once_with_its_metrics() -> None:
    second = run("b")
    other = {**second.plan.confirm, "steps": 99}
    second = replace(second, plan=replace(second.plan, confirm=other, closer=other))
    made = RunComparison([run("a"), second])
    (line,) = made.obstacles()
    assert line.startswith("`b` against `a`, not comparable: measured otherwise: steps ")
    assert "robust AUROC (ε 0.1), near OOD" in line
    assert "clean accuracy" not in line
    page = comparison_files(RunComparison([run("a"), second]))["compare.html"]
    assert "not comparable" in page
    assert 'class="box warning"' in page


def test_every_arm_stands_beside_the_one_of_its_name() -> None:
    made = RunComparison([run("a"), run("b"), run("c")])
    pairs = [(row[0].ours.label, row[0].theirs.label) for row in made.differences]
    assert pairs[:2] == [("b: winner", "a: winner"), ("c: winner", "a: winner")]
    assert ("c: gauss", "a: gauss") in pairs
    assert len(pairs) == 10


def test_files() -> None:
    runs = [run("a"), shifted(run("<b>", seed=1, study="other"), 0.02)]
    files = comparison_files(RunComparison(runs), NOW)
    page, words = files["compare.html"], files["compare.md"]
    assert "2 runs of digits-open compared" in page
    assert "2026-11-30 12:05 UTC" in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    for heading in ("Arms side by side", "Best so far", "Ranges searched", "What the plans differ in"):
        assert heading in page
        assert f"## {heading}" in words
    stored = json.loads(files["compare.json"])
    assert stored["format"] == 1
    assert stored["plans_differ_in"] == {"study": ["aoe_sigma", "other"]}
    first = stored["entries"][0]
    assert (first["run"], first["arm"], first["seeds"]) == ("a", "best", list(SEEDS))
    assert first["values"][CLAIM] == list(runs[0].arms[0].values[CLAIM])
    (one,) = [d for d in stored["differences"] if d["arm"] == "best" and d["metric"] == CLAIM]
    assert (one["run"], one["minus"], one["paired"], one["n"]) == ("<b>", "a", True, 5)


def test_nothing_measured_leaves_plans_and_searches() -> None:
    bare = [replace(run(name), arms=(), tests={}) for name in "ab"]
    made = RunComparison(bare)
    assert made.sentences() == [
        "Nothing was measured on test data in two of the runs, so only searches and plans are compared."
    ]
    page = comparison_files(RunComparison(bare))["compare.html"]
    assert "Best so far" in page
    assert "Arms side by side" not in page


def test_an_arm_of_one_run_alone_has_no_difference() -> None:
    second = run("b")
    second = replace(second, arms=(*second.arms, replace(arm("extra", (0.5,) * 5, "control"), seeds=SEEDS)))
    made = RunComparison([run("a"), second])
    assert "extra" in {e.arm.name for e in made.entries}
    assert "extra" not in {row[0].ours.arm.name for row in made.differences}
