"""The rank correlation of validation and test, its interval, and the regret of the choice."""

import math

import pytest

from tests.unit.study_results import plan, ranked_alike, record, result
from tuner.analysis.ranking import interval_of, ranking, regret_text


def test_better_with_better() -> None:
    steps = [n / 100 for n in range(8)]
    same, turned = ranking(ranked_alike(steps)), ranking(ranked_alike(steps[::-1]))
    assert (same.correlation, same.n, same.best, same.regret) == (pytest.approx(1.0), 8, 7, 0.0)
    assert (turned.correlation, turned.n, turned.best, turned.regret) == (
        pytest.approx(-1.0),
        8,
        0,
        pytest.approx(0.07),
    )
    assert (
        regret_text(ranked_alike(steps), same)
        == "The winner is the best of them in robust AUROC (ε 0.1), near OOD."
    )
    assert math.isnan(ranking(ranked_alike([0.5] * 8)).correlation)


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6
    assert ranking(ranked_alike([0.2, 0.1, 0.4, 0.3])).correlation == pytest.approx(0.6)


def test_a_metric_of_which_less_is_better() -> None:
    metric = "test/fpr95_id_pos/far"
    records = tuple(record(n, (0.5 + n / 100,)) for n in range(8))
    tests = {r.key: {metric: 0.9 - r.number / 100} for r in records}
    study = result(
        plan=plan(headline=(metric,)),
        records=records,
        tests=tests,
        feasible=frozenset(tests),
        best=records[2],
    )
    found = ranking(study)
    assert (found.correlation, found.best, found.regret) == (pytest.approx(1.0), 7, pytest.approx(0.05))
    assert regret_text(study, found).startswith(
        "The winner is 5.0 points worse in FPR95 (OOD accepted at 95 % ID), far OOD than"
    )


def test_what_could_not_win_does_not_count() -> None:
    whole = ranked_alike([0.1, 0.2, 0.3, 0.9])
    few = ranking(result(records=whole.records, tests=whole.tests, feasible=frozenset(list(whole.tests)[:3])))
    assert (few.n, few.best) == (3, 2)
    assert math.isnan(few.regret)
    assert ranking(result()).n == 0


def test_interval_by_hand() -> None:
    # atanh(.5) = .5493, standard error sqrt((1 + .125) / 25) = .2121: tanh(.1335) and tanh(.9651)
    assert interval_of(0.5, 28) == (pytest.approx(0.1327, abs=1e-3), pytest.approx(0.7465, abs=1e-3))
    assert all(map(math.isnan, (*interval_of(0.5, 3), *interval_of(1.0, 20), *interval_of(math.nan, 20))))
