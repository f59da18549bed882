"""Checks of a result: what is found, by numbers worked by hand, and what is said to be in order."""

import pytest

from tests.unit.study_results import CLAIM, OBJECTIVE, arm, plan, ranked_alike, record, result
from tuner.analysis.checks import checks
from tuner.analysis.results import StudyResult
from tuner.base.records import State, TrialRecord

FINE = {"outliers.sigma": 1.0, "attack.epsilon": 0.1, "attack.steps": 5, "lr": 0.002, "outliers.weight": 0.5}


def found(made: StudyResult, name: str) -> tuple[str, ...] | None:
    """Return the findings of a check, None if it was not made."""
    return {check.name: check.findings for check in checks(made)}.get(name)


def of_winner(params: dict[str, object]) -> StudyResult:
    best = record(params=params)
    return result(records=(best,), best=best, feasible=frozenset({best.key}))


def test_nothing_is_checked_of_nothing() -> None:
    assert checks(result()) == []


@pytest.mark.parametrize(("seeds", "factor"), [(2, "12.7"), (3, "4.3"), (4, "3.2")])
def test_few_seeds_are_told_with_the_t_factor(seeds: int, factor: str) -> None:
    made = result(plan=plan(confirm_seeds=seeds), arms=(arm("best", (0.9,) * seeds),))
    assert found(made, "enough fresh seeds") == (
        f"Only {seeds} fresh seeds: 95 % intervals are {factor} standard errors wide on each side; use "
        "--confirm-seeds 5 or more.",
    )


def test_enough_seeds_and_a_seed_that_was_lost() -> None:
    five = (0.9, 0.91, 0.92, 0.9, 0.91)
    assert found(result(arms=(arm("best", five),)), "enough fresh seeds") == ()
    lost = result(plan=plan(confirm_seeds=6), arms=(arm("best", five),))
    assert found(lost, "enough fresh seeds") == (
        "6 fresh seeds were asked for; every arm has finished 5 of them.",
    )
    assert "no interval" in str(found(result(arms=(arm("best", (0.9,)),)), "enough fresh seeds"))


def test_a_control_that_explains_the_gain_is_a_finding_only_if_the_verdict_says_so() -> None:
    best, base = arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82))
    name, records = "no control that may do as well", (record(),)
    same = result(best=record(), records=records, arms=(best, base, arm("gauss", (0.91, 0.90, 0.92))))
    assert found(same, name) == (
        "The winner is not told apart from gauss, which gains over the baseline as well: a control without the "
        "method's part.",
    )
    part = result(best=record(), records=records, arms=(best, base, arm("gauss", (0.85, 0.86, 0.87))))
    assert found(part, name) == ()
    assert found(result(best=record(), records=records, arms=(best, base)), name) is None


def test_winners_at_an_end_of_a_range_are_named_those_of_baselines_too() -> None:
    assert found(of_winner(FINE), "winners inside their ranges") == ()
    assert found(of_winner({**FINE, "outliers.sigma": 3.95}), "winners inside their ranges") == (
        "The winner's outliers.sigma = 3.95 lies at the upper end of its range (0.25 to 4): values beyond were not "
        "tried; for a new run: --set 'outliers.sigma=loguniform(0.25, 16.0)'.",
    )
    best, tuned = record(params=FINE), record(lane="oe", params={"lr": 0.0003})
    both = result(records=(best, tuned), best=best, feasible=frozenset({best.key, tuned.key}))
    assert found(both, "winners inside their ranges") == (
        "The tuned baseline oe's best lr = 0.0003 lies at the lower end of its range (0.0003 to 0.01): values beyond "
        "were not tried; for a new run: --set 'lr=loguniform(5.2e-05, 0.01)'.",
    )


def test_a_winner_that_was_lucky() -> None:
    # of (.8, .82, .84): mean .82, half .0497; one more run falls within .82 ± .0497 sqrt(4) = .0994
    best = record()
    arms = (arm("best", (0.80, 0.82, 0.84)),)
    name = "the winner repeated with fresh seeds"
    within = result(records=(best,), best=best, arms=arms, tests={best.key: {CLAIM: 0.915}})
    assert found(within, name) == ()
    beyond = result(records=(best,), best=best, arms=arms, tests={best.key: {CLAIM: 0.925}})
    assert found(beyond, name) == (
        "The winner's run in the search reached 92.5 % in robust AUROC (ε 0.1), near OOD, the same configuration with "
        "fresh seeds 82.0 ± 5.0 %: the search's own number is too good.",
    )
    worse = result(records=(best,), best=best, arms=arms, tests={best.key: {CLAIM: 0.6}})
    assert found(worse, name) == ()


def test_validation_and_test_that_agree_or_not() -> None:
    name, steps = "validation and test agree", [n / 100 for n in range(8)]
    assert found(ranked_alike(steps), name) == ()
    assert found(ranked_alike(steps[::-1]), name) == (
        "Validation and test order the 8 evaluated trials differently (rank correlation -1.00): the trial that is best "
        "on validation need not be the best on test. The winner is 7.0 points worse in robust AUROC (ε 0.1), near OOD "
        "than the best of them, trial 0.",
    )
    assert found(ranked_alike(steps[1:]), name) is None  # too few to say
    assert found(ranked_alike([0.5] * 8), name) == ()


def failing(failed: int, of: int) -> tuple[TrialRecord, ...]:
    broken = [record(n, (), State.FAIL, reason="loss is nan") for n in range(failed)]
    return (*broken, *(record(n) for n in range(failed, of)))


def test_failed_and_missing_trials() -> None:
    name = "trials ended as planned"
    assert found(result(records=failing(2, 20)), name) == ()
    assert found(result(records=failing(3, 20)), name) == ("3 of 20 trials failed: loss is nan (3 of 3).",)
    running = record(19, state=State.RUNNING)
    assert found(result(records=(*failing(0, 19), running)), name) == ("19 of 20 planned trials have ended.",)


def test_the_best_of_two() -> None:
    made = result(plan=plan(trials=2), records=(record(0), record(1)), best=record(0))
    assert found(made, "trials ended as planned") == (
        "2 trials for 6 parameters: most values of their ranges were not tried.",
        "The winner is the best of 2 trials that trained to the end.",
    )
    assert OBJECTIVE in record(0).judged
