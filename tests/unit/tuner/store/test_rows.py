"""Rows written directly, against the same trials written by Optuna itself."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tuner.store.rows import Rows
from tuner.store.trial_store import open_storage

SPACE = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "steps": IntDistribution(1, 9),
    "attack": CategoricalDistribution(("fgsm", None, 3)),
}
PARAMS = {"lr": 0.01, "steps": 4, "attack": None}
ATTRIBUTES = {
    "configuration": {"a.b": 1, "c": [1.5, "ü"]},
    "seed": 2**62,
    "starts": ["2026-01-01T00:00:00+00:00"],
}
EPOCHS = {1: 0.25, 2: 0.5}
END: dict[str, Any] = {"reason": "stopped at epoch 2", "pruned": True}
CONSTRAINTS = {"val/accuracy/clean": -0.05, "pruned": 1.0}
KINDS = [
    (TrialState.COMPLETE, [0.5]),
    (TrialState.COMPLETE, [0.5, -3.0]),
    (TrialState.PRUNED, None),
    (TrialState.FAIL, None),
]


def study(path: Path, objectives: int) -> optuna.Study:
    storage = open_storage(f"sqlite:///{path}")
    return optuna.create_study(storage=storage, study_name="one", directions=["maximize"] * objectives)


def template() -> FrozenTrial:
    notes = {"nsga2:generation": 3}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=PARAMS,
        distributions=SPACE,
        user_attrs=ATTRIBUTES,
        system_attrs=notes,
    )


def by_optuna(path: Path, state: TrialState, values: list[float] | None) -> FrozenTrial:
    own = study(path, len(values or [0]))
    own.add_trial(template())
    trial = optuna.trial.Trial(own, own.get_trials()[0]._trial_id)
    for epoch, value in EPOCHS.items():
        trial.set_user_attr(f"epoch/{epoch}", {"value": value})
        if len(values or [0]) == 1:
            trial.report(value, epoch)
    for key, item in END.items():
        trial.set_user_attr(key, item)
    for name, amount in CONSTRAINTS.items():
        trial.set_constraint(name, amount)
    own._storage.set_trial_state_values(trial._trial_id, state, values)
    return own.get_trials()[0]


def by_rows(path: Path, state: TrialState, values: list[float] | None) -> FrozenTrial:
    own = study(path, len(values or [0]))
    rows = Rows(open_storage(f"sqlite:///{path}"), own._study_id)
    trial_id = rows.add_trial(0, template())
    for epoch, value in EPOCHS.items():
        rows.add_epoch(trial_id, epoch, {"value": value}, value if len(values or [0]) == 1 else None)
    rows.end_trial(trial_id, state, values, END, CONSTRAINTS)
    return optuna.load_study(study_name="one", storage=f"sqlite:///{path}").get_trials()[0]


@pytest.mark.parametrize(("state", "values"), KINDS, ids=["one", "two", "pruned", "fail"])
def test_optuna_reads_the_same(tmp_path: Path, state: TrialState, values: list[float] | None) -> None:
    theirs = by_optuna(tmp_path / "theirs.db", state, values)
    ours = by_rows(tmp_path / "ours.db", state, values)
    assert ours.datetime_start is not None
    assert ours.datetime_complete is not None
    assert ours.datetime_start <= ours.datetime_complete
    assert theirs.datetime_complete is not None
    assert (
        abs((ours.datetime_complete - theirs.datetime_complete).total_seconds()) < 600
    )  # the same clock and zone
    for name in (
        *("number", "state", "params", "distributions", "user_attrs", "system_attrs"),
        *("intermediate_values", "constraints"),
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.values == theirs.values == values


def test_a_trial_ends_once(tmp_path: Path) -> None:
    own = study(tmp_path / "one.db", 1)
    rows = Rows(open_storage(f"sqlite:///{tmp_path / 'one.db'}"), own._study_id)
    trial_id = rows.add_trial(0, template())
    rows.end_trial(trial_id, TrialState.COMPLETE, [0.5], {}, {})
    before = own.get_trials()[0]
    with pytest.raises(RuntimeError, match="not running any more"):
        rows.end_trial(trial_id, TrialState.FAIL, None, {"reason": "late"}, {})
    assert own.get_trials()[0] == before
