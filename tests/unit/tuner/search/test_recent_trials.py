"""A sampler is shown the best and the newest trials; TPE that knows its space suggests what Optuna's suggests."""

import random
from collections.abc import Sequence

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tuner.base.records import Observation
from tuner.search.recent_trials import BEST, RecentTrials
from tuner.search.sampler_specs import SAMPLERS
from tuner.search.sampler_study import SamplerStudy
from tuner.search.samplers import multivariate_tpe, tpe

SPACE: dict[str, BaseDistribution] = {
    "weight": FloatDistribution(0.0, 1.0),
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "steps": IntDistribution(1, 5),
    "attack": CategoricalDistribution(("a", "b")),
    "fixed": IntDistribution(3, 3),
}
SHOWN = BEST + 10


def study_of(order: Sequence[int], direction: str = "maximize") -> tuple[optuna.Study, RecentTrials]:
    """Return a study of trials 0, 1, ... that end in an order; trial k has the value -k: the older the better."""
    storage = RecentTrials(
        StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE, SHOWN
    )
    study = optuna.create_study(storage=storage, direction=direction)
    for _ in order:
        study.ask()
    for number in order:
        study.tell(number, -float(number))
    return study, storage


def listed(study: optuna.Study) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False)]


def test_all_are_shown_until_there_are_too_many() -> None:
    assert listed(study_of(range(SHOWN))[0]) == list(range(SHOWN))


@pytest.mark.parametrize("order", [range(50), range(49, -1, -1)], ids=["in order", "backwards"])
def test_the_best_and_the_newest_are_shown_whatever_the_order_they_ended_in(order: range) -> None:
    study, _ = study_of(order)
    assert listed(study) == [*range(BEST), *range(40, 50)]


def test_the_smallest_are_the_best_of_what_is_minimised() -> None:
    study, _ = study_of(range(100), "minimize")  # here the newest are the best as well
    assert listed(study) == list(range(100 - BEST, 100))


def test_running_trials_are_shown_and_failed_ones_are_not() -> None:
    study, _ = study_of(range(60))
    running, failed = study.ask(), study.ask()
    study.tell(failed, state=TrialState.FAIL)
    assert listed(study)[-2:] == [59, running.number]
    assert [t.number for t in study.get_trials(states=(TrialState.RUNNING,))] == [running.number]


def test_a_trial_that_was_stopped_or_is_infeasible_is_not_among_the_best() -> None:
    storage = RecentTrials(StudyDirection.MAXIMIZE, SHOWN)
    study = optuna.create_study(storage=storage, direction="maximize")
    stopped, infeasible = study.ask(), study.ask()
    stopped.report(1000.0, 1)
    study.tell(stopped, state=TrialState.PRUNED)
    infeasible.set_constraint("floor", 0.1)
    study.tell(infeasible, 1000.0)
    for value in range(50):
        study.tell(study.ask(), float(value))
    assert {0, 1}.isdisjoint(listed(study))


@pytest.mark.parametrize("name", ["tpe", "tpe-multivariate"])
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("trials", [0, 5, 40])
def test_a_known_space_changes_no_suggestion(name: str, objectives: int, trials: int) -> None:
    values = random.Random(trials)
    study = optuna.create_study(directions=["maximize"] * objectives)
    for number in range(trials):
        study.sampler = optuna.samplers.RandomSampler(seed=number)
        trial = study.ask(SPACE)
        if objectives == 1 and number % 3 == 0:
            trial.report(values.random(), 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [values.random() for _ in range(objectives)])
    joint = {"multivariate": True} if name == "tpe-multivariate" else {}
    make = multivariate_tpe if joint else tpe
    for seed in range(5):
        study.sampler = optuna.samplers.TPESampler(seed=seed, **joint)
        theirs = study.ask(SPACE)
        study.tell(theirs, state=TrialState.FAIL)
        study.sampler = make(SPACE, seed)
        ours = study.ask(SPACE)
        study.tell(ours, state=TrialState.FAIL)
        assert ours.params == theirs.params


def test_the_sampler_s_spec_says_how_many_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = SAMPLERS["tpe"].shown
    assert shown is not None
    prior = [Observation({"weight": k / 2000}, (-float(k),), 1) for k in range(shown + 100)]
    seen: list[int] = []

    def counted(self: object, study: optuna.Study, *_: object) -> dict[str, object]:
        seen.append(len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))))
        return {"weight": 0.5}

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", counted)
    for directions, expected in (([StudyDirection.MAXIMIZE], shown), ([StudyDirection.MAXIMIZE] * 2, None)):
        values = [Observation(o.params, o.values * len(directions), o.epochs, o.pruned) for o in prior]
        study = SamplerStudy("tpe-multivariate", {"weight": SPACE["weight"]}, directions, values)
        study.draw(0)
        assert seen.pop() == (expected or len(prior))
