"""A trial's beginning, epochs and end as rows of Optuna's own tables, each in one transaction."""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam

_TRIALS = TrialModel.__table__.insert()
_PARAMS = TrialParamModel.__table__.insert()
_ATTRIBUTES = TrialUserAttributeModel.__table__.insert()
_NOTES = TrialSystemAttributeModel.__table__.insert()
_INTERMEDIATE = TrialIntermediateValueModel.__table__.insert()
_VALUES = TrialValueModel.__table__.insert()

_trials = TrialModel.__table__
_END = (
    _trials.update()
    .where(_trials.c.trial_id == bindparam("id"), _trials.c.state == TrialState.RUNNING)
    .values(state=bindparam("ended"), datetime_complete=bindparam("now"))
)


class Rows:
    """Writes as `Study.add_trial`, `Trial.set_user_attr`, `Trial.report` and `Study.tell` would.

    Those read every row before they write it, most in a transaction each: 1.9 ms of CPU for an epoch where this
    takes 0.1, 10 ms for a trial where this takes 1, and a kill between two left half an epoch.

    Args:
        study_id: of the study to which trials are added.
    """

    def __init__(self, storage: optuna.storages.BaseStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id

    def add_trial(self, number: int, trial: FrozenTrial) -> int:
        """Add a running trial with its parameters and attributes, and return its id.

        Args:
            number: how many trials the study has: nobody else adds any.
        """
        if not isinstance(self._storage, optuna.storages.RDBStorage):
            return self._storage.create_new_trial(self._study_id, trial)
        with self._storage.engine.begin() as connection:
            return insert_trial(connection, self._study_id, number, trial)

    def add_epoch(self, trial_id: int, epoch: int, entry: Mapping[str, Any], value: float | None) -> None:
        """Add an epoch that is not there yet; `value` is the finite objective, None with several.

        Raises:
            IntegrityError: it is there: another driver writes this run.
        """
        if isinstance(self._storage, optuna.storages.RDBStorage):
            with self._storage.engine.begin() as connection:
                insert_epoch(connection, trial_id, epoch, json.dumps(entry), value)
            return
        self._storage.set_trial_user_attr(trial_id, f"epoch/{epoch}", json.loads(json.dumps(entry)))
        if value is not None:  # a storage in memory: nothing to lose, for simulations
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def end_trial(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        constraints: Mapping[str, float],
    ) -> None:
        """End a running trial.

        Args:
            values: of the objectives, finite; None unless complete.

        Raises:
            RuntimeError: it is not running: another driver writes this run.
        """
        notes = {f"{_CONSTRAINTS_KEY}:{name}": amount for name, amount in constraints.items()}
        if isinstance(self._storage, optuna.storages.RDBStorage):
            with self._storage.engine.begin() as connection:
                update_trial(connection, trial_id, state, values or (), attributes, notes)
            return
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        for key, value in notes.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, state, values)


def insert_trial(connection: Any, study_id: int, number: int, trial: FrozenTrial) -> int:
    """Do the work of `Rows.add_trial` inside a transaction."""
    now = datetime.datetime.now()  # as Optuna: local time
    row = {"study_id": study_id, "number": number, "state": TrialState.RUNNING, "datetime_start": now}
    trial_id: int = connection.execute(_TRIALS, row).inserted_primary_key[0]
    params = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]
    for statement, rows in (
        (_PARAMS, params),
        (_ATTRIBUTES, _attributes(trial_id, trial.user_attrs)),
        (_NOTES, _attributes(trial_id, trial.system_attrs)),
    ):
        if rows:
            connection.execute(statement, rows)
    return trial_id


def _attributes(trial_id: int, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"trial_id": trial_id, "key": k, "value_json": json.dumps(v)} for k, v in values.items()]


def insert_epoch(connection: Any, trial_id: int, epoch: int, entry: str, value: float | None) -> None:
    """Do the work of `Rows.add_epoch` inside a transaction."""
    connection.execute(_ATTRIBUTES, {"trial_id": trial_id, "key": f"epoch/{epoch}", "value_json": entry})
    if value is not None:
        finite = TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
        row = {"trial_id": trial_id, "step": epoch, "intermediate_value": value}
        connection.execute(_INTERMEDIATE, {**row, "intermediate_value_type": finite})


def update_trial(
    connection: Any,
    trial_id: int,
    state: TrialState,
    values: Sequence[float],
    attributes: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> None:
    """Do the work of `Rows.end_trial` inside a transaction."""
    row = {"id": trial_id, "ended": state, "now": datetime.datetime.now()}
    if connection.execute(_END, row).rowcount != 1:
        raise RuntimeError(
            f"trial {trial_id} of the storage is not running any more; does another driver write it?"
        )
    finite = TrialValueModel.TrialValueType.FINITE
    results = [
        {"trial_id": trial_id, "objective": k, "value": value, "value_type": finite}
        for k, value in enumerate(values)
    ]
    for statement, rows in (
        (_VALUES, results),
        (_ATTRIBUTES, _attributes(trial_id, attributes)),
        (_NOTES, _attributes(trial_id, notes)),
    ):
        if rows:
            connection.execute(statement, rows)
