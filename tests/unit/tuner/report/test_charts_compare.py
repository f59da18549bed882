"""Plots of several runs: steps by hand, what has no line, ranges that differ."""

from dataclasses import replace

from tests.unit.study_results import OBJECTIVE, plan, record, result
from tests.unit.tuner.report.test_comparison import run
from tuner.base.records import State
from tuner.report.charts_compare import best_so_far, ranges, steps_of


def test_best_so_far_by_epochs_trained() -> None:
    """Trials of 2, 1, 2 and 2 epochs; the second was stopped, the third is worse than the first, the fourth better."""
    records = (
        record(0, (0.5, 0.6)),
        record(1, (0.9,), State.PRUNED),
        record(2, (0.4, 0.5)),
        record(3, (0.6, 0.8)),
        record(4, (0.9, 0.95)),
    )
    made = result(records=records, feasible=frozenset({"0000", "0002", "0003"}))
    assert steps_of(made) == [(2, 0.6), (7, 0.8)]  # trial 4 misses a floor
    assert best_so_far([made, replace(made, feasible=frozenset())]) is None
    found = best_so_far([made, replace(made, plan=plan(run_name="b"))])
    assert found is not None
    assert found[1].rows == [("aoe_sigma-test", "80.0 %", "7", "9"), ("b", "80.0 %", "7", "9")]


def test_searches_of_another_objective_have_no_line() -> None:
    other = replace(plan().objectives[0], metric=OBJECTIVE.replace("0.1", "0.2"))
    second = run("b")
    assert best_so_far([run("a"), replace(second, plan=replace(second.plan, objectives=(other,)))]) is None


def test_ranges_say_what_was_fixed_or_not_searched() -> None:
    first, second = run("a"), run("b")
    own, oe = second.plan.lanes
    space = {k: v for k, v in own.space.items() if k != "lr"}
    changed = replace(own, space=space, fixed={**own.fixed, "lr": 0.01})
    second = replace(second, plan=replace(second.plan, lanes=(changed, oe)))
    found = ranges([first, second])
    assert found is not None
    rows = {(row[0], row[1]): row[2] for row in found[1].rows}
    assert rows["`lr`", "b"] == "fixed at 0.01"
    assert "logarithmic" in rows["`outliers.sigma`", "a"]
    assert rows["`attack.name`", "a"] == "fgsm, pgd, mifgsm, eba, eba_pgd"
