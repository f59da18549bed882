"""Reading a run's trials from the study storage, read-only: while a driver writes, or after it has ended."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState

from tuner.base.errors import UsageError
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole
from tuner.base.text import one_line
from tuner.base.urls import (
    connect_arguments,
    sqlite_file,
    sqlite_url,
    with_driver,
    without_password,
    without_secrets,
)
from tuner.planning.plan import Plan

Result = TypeVar("Result")

CONNECT_S = 5  # how long a connection to a server may take

TRIAL = "trial"  # the attribute with what a trial was created from; in runs of old an attribute for each
PRUNED = "pruned"  # constraint of a complete trial that was stopped early, where there are several objectives
STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAIL,
    TrialState.RUNNING: State.RUNNING,
}


def record_of(frozen: FrozenTrial, lane: str, role: TrialRole) -> TrialRecord:
    """Return a stored trial as a value.

    Args:
        role: of the lane; a trial may say otherwise.
    """
    attrs = frozen.user_attrs
    about = attrs.get(TRIAL, attrs)
    starts = tuple(attrs.get("starts") or about.get("starts", ()))
    history = {
        int(key.removeprefix("epoch/")): Epoch(
            {k: float(v) for k, v in value["metrics"].items()},
            Decision(value["decision"]),
            value["checkpoint"],
            tuple(value["place"]) if "place" in value else None,
        )
        for key, value in attrs.items()
        if key.startswith("epoch/")
    }
    stopped = frozen.state is TrialState.COMPLETE and frozen.constraints.get(PRUNED, 0.0) > 0
    state = State.PRUNED if stopped else STATES[frozen.state]
    return TrialRecord(
        lane=lane,
        number=frozen.number,
        role=TrialRole(about.get("role", role.value)),
        state=state,
        params=dict(frozen.params),
        configuration=about.get("configuration", {}),
        seed=about.get("seed", 0),
        history=dict(sorted(history.items())),
        reason=stop_reason(max(history, default=0)) if state is State.PRUNED else attrs.get("reason", ""),
        attempt=len(starts),
        method=about.get("method", ""),
        arm=about.get("arm", ""),
        seed_index=about.get("seed_index", -1),
        starts=starts,
    )


def stop_reason(epoch: int) -> str:
    """Return the reason of a trial that a scheduler stopped after an epoch."""
    return f"stopped at epoch {epoch}"


def study_name(run: str, lane: str) -> str:
    """Return the name of a lane's study in the storage."""
    return run if lane == "search" else f"{run}/{lane}"


_compatible: set[str] = set()  # schema versions that Optuna has accepted


def read_with(url: str, look: Callable[[optuna.storages.BaseStorage], Result]) -> Result | None:
    """Return the result of `look` on the storage, opened read-only; None if nothing has been written to it yet.

    A SQLite file is opened read-only: in its write-ahead mode a reader neither waits for the driver nor makes
    it wait. Without a log beside it no driver has it open, and it is read as a file that does not change: that
    writes nothing, so it works in a read-only folder too. If a driver began to write meanwhile, what was read may
    be torn: it is thrown away and read again as a file in use. PostgreSQL gets read-only transactions.

    Raises:
        UsageError: it cannot be opened or read, in one line without the password.
    """
    path = sqlite_file(url)
    if path is None:
        options = {"execution_options": {"postgresql_readonly": True}}
        return _look(
            with_driver(url), url, options | {"connect_args": connect_arguments(url, CONNECT_S)}, look
        )
    if not path.exists():
        return None
    arguments = {"connect_args": {"timeout": 20}}
    before = _at_rest(path)
    if before is not None:
        result: Result | None = None
        error: Exception | None = None
        try:
            result = _look(sqlite_url(path, immutable="1"), url, arguments, look)
        except Exception as torn_or_broken:
            error = torn_or_broken
        if _at_rest(path) == before:
            if error is not None:
                raise error
            return result
    return _look(sqlite_url(path, mode="ro"), url, arguments, look)


def _at_rest(path: Path) -> tuple[int, int, bytes] | None:
    """Return values that change with every write to a SQLite file; None while a process has it open for writing."""
    with path.open("rb") as file:
        header, stat = file.read(100), os.fstat(file.fileno())
    if any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal")):
        return None
    return stat.st_size, stat.st_mtime_ns, header  # the header counts the transactions


def _look(
    url: str, told: str, arguments: dict[str, Any], look: Callable[[optuna.storages.BaseStorage], Result]
) -> Result | None:
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url, **arguments)
        try:
            with engine.connect() as connection:
                revision = MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()
        if revision is None:  # the last row that a new storage gets: without it Optuna would go on making it
            return None
        known = (
            revision in _compatible
        )  # Optuna's check reads its whole history of schemas, for every file again
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments, skip_compatibility_check=known)
        _compatible.add(revision)
        try:
            return look(storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, OptunaError, ImportError, RuntimeError) as error:
        reason = one_line(without_secrets(error, told), limit=None).partition(" (Background on this error")[
            0
        ][:200]
        raise UsageError(f"cannot read the study storage {without_password(told)}: {reason}") from error


def read_trials(url: str, run: str, plan: Plan) -> tuple[list[TrialRecord], dict[str, Any]]:
    """Return every trial of a run, lane by lane, and the facts stored with its search.

    Raises:
        UsageError: the storage cannot be read.
    """

    def look(storage: optuna.storages.BaseStorage) -> tuple[list[TrialRecord], dict[str, Any]]:
        records: list[TrialRecord] = []
        facts: dict[str, Any] = {}
        for lane, role in [
            *((p.name, TrialRole(p.role)) for p in plan.lanes),
            ("confirm", TrialRole.CONFIRM),
        ]:
            found, notes = _lane(storage, study_name(run, lane), lane, role) or ([], {})
            records += found
            facts = notes if lane == "search" else facts
        return records, facts

    return read_with(url, look) or ([], {})


def has_run(url: str, run: str) -> bool:
    """Return whether the storage holds a run of this name already."""
    return bool(read_with(url, lambda storage: any(s.study_name == run for s in storage.get_all_studies())))


def read_study(url: str, name: str, lane: str) -> tuple[list[TrialRecord], dict[str, Any]]:
    """Return the trials of one study of another run, and its facts; changes nothing there.

    Raises:
        UsageError: the storage cannot be read, or has no such study.
    """

    result = read_with(url, lambda storage: _lane(storage, name, lane, TrialRole.SEARCH))
    if result is None:
        raise UsageError(f"{without_password(url)} has no study {name!r}")
    return result


def _lane(
    storage: optuna.storages.BaseStorage, name: str, lane: str, role: TrialRole
) -> tuple[list[TrialRecord], dict[str, Any]] | None:
    """Return the trials of a study as those of a lane, and the facts stored with it; None if there is no such study."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return None
    trials = storage.get_all_trials(study, deepcopy=False)
    return [record_of(trial, lane, role) for trial in trials], storage.get_study_user_attrs(study)
