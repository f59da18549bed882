"""The trial store: what plain Optuna reads of it, what a kill at each write leaves, and runs in the format of old."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Objective
from tuner.base.records import Decision, State, TrialRecord, TrialRole
from tuner.store.database import open_storage
from tuner.store.trial_store import METRIC_NAMES, TrialStore

ONE = (Objective("val/score"),)
TWO = (*ONE, Objective("val/cost", "minimize"))
SPACE = {"lr": Float(1e-4, 1.0, log=True), "steps": Int(1, 9), "attack": Choice(("fgsm", None, 3))}
BEGIN = {"configuration": {"a.b": 1, "c": [1.5, "ü"]}, "seed": 2**62, "method": "aoe"}
FLOORS = {"val/accuracy/clean": -0.05}


def store_of(path: Path, objectives: tuple[Objective, ...] = ONE) -> TrialStore:
    storage = open_storage(f"sqlite:///{path / 'study.db'}")
    return TrialStore(storage, "one", "search", TrialRole.SEARCH, SPACE, objectives, 0, "random")


def by_optuna(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="one", storage=f"sqlite:///{path / 'study.db'}")


def begin(number: int, params: Any) -> dict[str, Any]:
    return {**BEGIN, "role": "baseline"} if number else dict(BEGIN)


def metrics(epoch: int) -> dict[str, float]:
    return {"val/score": 0.25 * epoch, "val/cost": -3.0 * epoch, "val/accuracy/clean": 0.9}


def steps(store: TrialStore, state: State, reason: str = "") -> Iterator[None]:
    """One trial of two epochs, as far as it has not got yet; what a resumed driver does."""
    if not store.count:
        store.ask(begin)
    for epoch in (1, 2):
        decision = Decision.CONTINUE if epoch == 1 else Decision.DONE
        store.report(0, epoch, metrics(epoch), decision, f"c{epoch}", (1, epoch))
        yield
    if store.record(0).state is State.RUNNING:
        store.finish(0, state, reason, None if state is State.FAIL else FLOORS)


ENDS = [
    (ONE, State.COMPLETE, "", TrialState.COMPLETE, [0.5], FLOORS),
    (TWO, State.COMPLETE, "", TrialState.COMPLETE, [0.5, -6.0], FLOORS),
    (ONE, State.PRUNED, "stopped at epoch 2", TrialState.PRUNED, None, FLOORS),
    (TWO, State.PRUNED, "stopped at epoch 2", TrialState.COMPLETE, [0.5, -6.0], {**FLOORS, "pruned": 1.0}),
    (ONE, State.FAIL, "ValueError: no", TrialState.FAIL, None, {}),
]
IDS = ["complete", "complete-2", "pruned", "pruned-2", "fail"]


@pytest.mark.parametrize(("objectives", "state", "reason", "stored", "values", "constraints"), ENDS, ids=IDS)
def test_plain_optuna_reads_a_trial(
    tmp_path: Path,
    objectives: tuple[Objective, ...],
    state: State,
    reason: str,
    stored: TrialState,
    values: list[float] | None,
    constraints: dict[str, float],
) -> None:
    store = store_of(tmp_path, objectives)
    for _ in steps(store, state, "ValueError: no" if state is State.FAIL else ""):
        pass
    study = by_optuna(tmp_path)
    assert study.metric_names == [objective.metric for objective in objectives]
    (trial,) = study.get_trials()
    assert (trial.state, trial.values, dict(trial.constraints)) == (stored, values, constraints)
    assert trial.params == store.record(0).params
    assert trial.distributions == store.space
    assert trial.user_attrs["epoch/2"]["value"] == {
        "metrics": metrics(2),
        "decision": "done",
        "checkpoint": "c2",
        "place": [1, 2],
    }
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    assert trial.datetime_start <= trial.datetime_complete
    record = store_of(tmp_path, objectives).record(0)
    assert record == store.record(0)
    assert (record.state, record.reason, record.epochs) == (state, reason, 2)
    assert (record.configuration, record.seed, record.method) == (*BEGIN.values(),)


class Killed(BaseException):
    """The process ends here."""


def killed_at(store: TrialStore, write: int) -> None:
    """Let the store's process end before its write number `write`, counted from 0."""
    left = [write]
    inner = store._storage
    for name in dir(inner):
        if name.startswith(("set_trial_", "create_new_trial")):
            setattr(inner, name, partial(_write_or_die, left, getattr(inner, name)))


def _write_or_die(left: list[int], write: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise Killed
    return write(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize(("objectives", "state", "reason"), [end[:3] for end in ENDS], ids=IDS)
def test_a_kill_before_any_write_leaves_a_trial_that_ends_the_same(
    tmp_path: Path, objectives: tuple[Objective, ...], state: State, reason: str
) -> None:
    given = reason if state is State.FAIL else ""
    (tmp_path / "whole").mkdir()
    whole = store_of(tmp_path / "whole", objectives)
    for _step in steps(whole, state, given):
        pass
    expected = stored_trial(tmp_path / "whole")
    write = 0
    while True:
        folder = tmp_path / str(write)
        folder.mkdir()
        store = store_of(folder, objectives)
        killed_at(store, write)
        try:
            for _step in steps(store, state, given):
                pass
            break
        except Killed:
            again = store_of(folder, objectives)
            assert all(record.state is State.RUNNING for record in again.records())
            for _step in steps(again, state, given):
                pass
            assert stored_trial(folder) == expected, f"killed before write {write}"
        write += 1
    assert write == 3 + 1 + len(stored_trial(tmp_path / "whole")["constraints"]) + 1


def stored_trial(path: Path) -> dict[str, Any]:
    (trial,) = by_optuna(path).get_trials()
    attributes = {k: v for k, v in trial.user_attrs.items() if k != "trial"}
    about = {k: v for k, v in trial.user_attrs["trial"]["value"].items() if k != "starts"}
    names = ("state", "values", "params", "constraints")
    return {**{name: getattr(trial, name) for name in names}, "attributes": attributes, "about": about}


def test_a_failure_that_was_not_stored_to_its_end_is_forgotten(tmp_path: Path) -> None:
    """Its reason is written, then the driver is killed; the trial is trained again and succeeds."""
    store = store_of(tmp_path)
    store.ask(begin)
    store.report(0, 1, metrics(1), Decision.CONTINUE, "c1")
    killed_at(store, 1)
    with pytest.raises(Killed):
        store.finish(0, State.FAIL, "worker lost")
    again = store_of(tmp_path)
    assert again.record(0).state is State.RUNNING
    again.report(0, 2, metrics(2), Decision.DONE, "c2")
    again.finish(0, State.COMPLETE)
    assert again.record(0).reason == store_of(tmp_path).record(0).reason == ""


def test_a_trial_ends_once(tmp_path: Path) -> None:
    """Two drivers must not share a run; the storage refuses the second end."""
    one = store_of(tmp_path)
    one.ask(begin)
    two = store_of(tmp_path)
    one.report(0, 1, metrics(1), Decision.DONE, "c1")
    one.finish(0, State.COMPLETE)
    before = by_optuna(tmp_path).get_trials()
    with pytest.raises(UpdateFinishedTrialError):
        two.finish(0, State.FAIL, "late")
    assert by_optuna(tmp_path).get_trials() == before


def test_a_trial_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    one, two = store_of(tmp_path), store_of(tmp_path)
    assert one.ask(begin) is not None
    with pytest.raises(RuntimeError, match="does another driver write this run"):
        two.ask(begin)


def of_old(number: int, state: TrialState, constraints: dict[str, float], **attributes: Any) -> FrozenTrial:
    """Return a trial in the format before there was one attribute for all that a trial is created from."""
    store = {"epoch/1": {"metrics": metrics(1), "decision": "continue", "checkpoint": "c1"}}
    return optuna.trial.create_trial(
        state=state,
        values=[0.25, -3.0] if state is TrialState.COMPLETE else None,
        params={"lr": 0.1, "steps": number + 1, "attack": None},
        distributions={
            "lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
            "steps": optuna.distributions.IntDistribution(1, 9),
            "attack": optuna.distributions.CategoricalDistribution(("fgsm", None, 3)),
        },
        user_attrs={**BEGIN, "starts": ["2026-01-01T00:00:00+00:00"], **store, **attributes},
        constraints=constraints,
    )


def test_a_run_of_old_goes_on(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    directions = [o.direction for o in TWO]
    study = optuna.create_study(study_name="one", storage=storage, directions=directions)
    study.add_trial(
        of_old(
            0, TrialState.COMPLETE, {"pruned": 1.0}, pruned=True, reason="stopped at epoch 1", role="baseline"
        )
    )
    study.add_trial(of_old(1, TrialState.FAIL, {}, reason="ValueError: no"))
    study.add_trial(of_old(2, TrialState.RUNNING, {}))
    store = store_of(tmp_path, TWO)
    first, second, third = store.records()
    assert (first.state, first.reason, first.role) == (State.PRUNED, "stopped at epoch 1", TrialRole.BASELINE)
    assert (second.state, second.reason, second.role) == (State.FAIL, "ValueError: no", TrialRole.SEARCH)
    assert (third.state, third.attempt, third.checkpoint) == (State.RUNNING, 1, "c1")
    for record in store.records():
        assert (record.configuration, record.seed, record.method) == (*BEGIN.values(),)
    assert store.begin_attempt(2).attempt == 2
    store.report(2, 2, metrics(2), Decision.DONE, "c2")
    store.finish(2, State.COMPLETE, violations=FLOORS)
    again: TrialRecord = store_of(tmp_path, TWO).record(2)
    assert again == store.record(2)
    assert (again.attempt, again.epochs, again.state) == (2, 2, State.COMPLETE)


def test_the_objectives_of_a_run_of_old_are_named_when_it_is_resumed(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store._storage.set_study_system_attr(store._study_id, METRIC_NAMES, None)
    assert by_optuna(tmp_path).metric_names is None
    store_of(tmp_path)
    assert by_optuna(tmp_path).metric_names == ["val/score"]
