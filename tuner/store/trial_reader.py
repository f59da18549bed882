"""Reading a run's trials from the study storage, read-only: while a driver writes, or after it has ended."""

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import optuna
from optuna.study import StudyDirection

from trainables.base.storage import open_file
from tuner.base.checksums import MARK, Damaged
from tuner.base.errors import UsageError, root_cause
from tuner.base.records import TrialRecord, TrialRole, trial_key
from tuner.base.text import one_line
from tuner.base.urls import (
    connect_arguments,
    sqlite_file,
    with_driver,
    without_password,
    without_secrets,
)
from tuner.planning.plan import Plan
from tuner.store.trial_format import facts_of, record_of

Result = TypeVar("Result")


class StoredLane(NamedTuple):
    """The trials of a lane and the facts stored with it.

    Attributes:
        damaged: one line for each trial that is not what was written; it is not among the records.
        directions: of the objectives.
    """

    records: list[TrialRecord]
    facts: dict[str, Any]
    damaged: list[str]
    directions: list[StudyDirection]


CONNECT_S = 5  # how long a connection to a server may take
LOCKED_S = 20  # how long a SQLite file may be locked
CURE = "restore it from a copy"


def study_name(run_id: str, lane: str) -> str:
    """Return the name of a lane's study in the storage."""
    return run_id if lane == "search" else f"{run_id}/{lane}"


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
        return _told(url, lambda: _read_server(url, look))
    return _told(url, lambda: _read_local(path, look))


def _read_local(path: Path, look: Callable[[optuna.storages.BaseStorage], Result]) -> Result | None:
    """Return the result of `look` on a SQLite file as `read_with` describes it; None if it is not there any more."""
    try:
        before = _at_rest(path)
        if before is not None:
            result: Result | None = None
            error: Exception | None = None
            try:
                result = _read_file(f"file:{quote(str(path))}?immutable=1", look)
            except Exception as torn_or_broken:
                error = torn_or_broken
            if _at_rest(path) == before:
                if error is not None:
                    raise error
                return result
        return _read_file(f"file:{quote(str(path))}?mode=ro", look)
    except Exception:
        if _is_missing(path):  # from the beginning, or removed meanwhile
            return None
        raise


def _is_regular(path: Path) -> bool:
    """Return whether a file is there.

    Raises:
        OSError: something else is there.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, f"{path.name} is no regular file", str(path))
    return True


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _at_rest(path: Path) -> tuple[int, int, bytes] | None:
    """Return values that change with every write to a SQLite file; None while a process has it open for writing.

    Raises:
        OSError: it, or a log beside it, is not there, may not be read or is no regular file: SQLite would wait for a
            pipe without end.
    """
    with open_file(path) as file:
        header, state = file.read(100), os.fstat(file.fileno())
    beside = {end: path.with_name(path.name + end) for end in ("-wal", "-journal", "-shm")}
    there = {
        end for end, file in beside.items() if _is_regular(file)
    }  # opening them would end SQLite's locks
    if there & {"-wal", "-journal"}:
        return None
    return state.st_size, state.st_mtime_ns, header  # the header counts the transactions


def _told(url: str, read: Callable[[], Result]) -> Result:
    """Return what `read` returns; what it raises becomes a UsageError of one line that names the storage."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings show what is damaged as it is
    try:
        return read()
    except Damaged as error:
        raise Damaged(f"{without_password(url)} is damaged: {error}; {CURE}") from error
    except UsageError:
        raise
    except Exception as error:  # Optuna and SQLAlchemy raise whatever the rows of a damaged file lead them to
        first = root_cause(error)  # the database's own words, without the statement
        words = (isinstance(first, OSError) and first.strerror) or without_secrets(first, url)
        reason = one_line(words, limit=None)[:200] or type(first).__name__
        if type(first) is sqlite3.DatabaseError:  # a lock or a missing right is a subclass
            raise Damaged(f"{without_password(url)} is damaged: {reason}; {CURE}") from error
        raise UsageError(f"cannot read the study storage {without_password(url)}: {reason}") from error
    finally:
        optuna.logging.set_verbosity(verbosity)


def _read_server(url: str, look: Callable[[optuna.storages.BaseStorage], Result]) -> Result | None:
    from sqlalchemy import create_engine, inspect, text

    arguments = {
        "execution_options": {"postgresql_readonly": True},
        "connect_args": connect_arguments(url, CONNECT_S),
    }
    engine = create_engine(with_driver(url), **arguments)
    try:
        with engine.connect() as connection:
            made = inspect(connection).has_table("alembic_version")
            # its row is the last that a new storage gets: without it Optuna would go on making it
            if not made or connection.execute(text("SELECT 1 FROM alembic_version")).first() is None:
                return None
    finally:
        engine.dispose()
    storage = optuna.storages.RDBStorage(with_driver(url), engine_kwargs=arguments)
    try:
        return look(storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


class _FileStorage:
    """Optuna's storage on one SQLite file after the other.

    One engine serves them all: SQLAlchemy prepares each statement once, and not again for every run of a folder.
    """

    def __init__(self) -> None:
        self._file = ""
        self._busy = False
        self._compatible: set[str] = set()  # schema versions that Optuna has accepted
        self._storage: optuna.storages.RDBStorage | None = None

    def read(self, file: str, revision: str, look: Callable[[optuna.storages.BaseStorage], Result]) -> Result:
        """Return the result of `look` on a file, given as SQLite's own kind of URI, of a schema version."""
        if self._busy:  # a look within a look
            return _FileStorage().read(file, revision, look)
        self._file, self._busy = file, True
        try:
            if self._storage is None or revision not in self._compatible:
                # Optuna's check reads its whole history of schemas
                self._storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=self._engine())
                self._compatible.add(revision)
            return look(self._storage)
        finally:
            if self._storage is not None:
                self._storage.remove_session()
            self._busy = False

    def _engine(self) -> dict[str, Any]:
        from sqlalchemy.pool import NullPool

        return {"creator": lambda: _connect(self._file), "poolclass": NullPool}


_files = _FileStorage()


def _connect(file: str) -> sqlite3.Connection:
    return sqlite3.connect(file, uri=True, timeout=LOCKED_S, check_same_thread=False)


def _read_file(file: str, look: Callable[[optuna.storages.BaseStorage], Result]) -> Result | None:
    with closing(_connect(file)) as connection:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        _check_structure(connection, sorted(tables))
        revision = _first(connection, "SELECT version_num FROM alembic_version", "alembic_version" in tables)
        if revision is None and _first(connection, "SELECT 1 FROM studies", "studies" in tables) is None:
            return None
        if revision is None:  # the last row that a new storage gets: without it Optuna would go on making it
            raise Damaged("the version of its tables is lost")
        _check_names(connection)
    return _files.read(file, str(revision), look)


def _first(connection: sqlite3.Connection, query: str, there: bool) -> object:
    """Return the first value of a query, None if it has no row or its table is not `there`."""
    row = connection.execute(query).fetchone() if there else None
    return row[0] if row else None


def _check_structure(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Raise Damaged if the file has lost pages, rows or entries of an index; values have their checksums."""
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise Damaged(one_line(problem, limit=200))
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    orphans = [orphan[0]] if orphan else [name for name in tables if _has_unowned(connection, name)]
    if orphans:
        raise Damaged(f"a row of {orphans[0]} belongs to nothing")


def _has_unowned(connection: sqlite3.Connection, table: str) -> bool:
    """Return whether a row has no value where it names its owner, which SQLite's own check lets pass."""
    owners = [row[3] for row in connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,))]
    return any(
        connection.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" IS NULL').fetchone()
        for column in owners
    )


def _check_names(connection: sqlite3.Connection) -> None:
    """Raise Damaged if a study has another name than when it was made: it would not be found."""
    query = "SELECT study_name, value_json FROM studies NATURAL JOIN study_user_attributes WHERE key = ?"
    for name, stored in connection.execute(query, (MARK,)):
        if json.loads(stored) != name:
            raise Damaged(f"study {name!r} was {json.loads(stored)!r} when it was made")


def read_trials(url: str, plan: Plan, begun: bool = False) -> tuple[list[TrialRecord], dict[str, Any]]:
    """Return every trial of a run, lane by lane, and the facts stored with its search.

    Args:
        begun: the run is known to have had a trial.

    Raises:
        UsageError: the storage cannot be read, or a value in it is not what was written.
    """

    def look(storage: optuna.storages.BaseStorage) -> tuple[list[TrialRecord], dict[str, Any], str]:
        directions = [StudyDirection[o.direction.upper()] for o in plan.objectives]
        records: list[TrialRecord] = []
        facts: dict[str, Any] = {}
        missing = ""
        roles = {p.name: TrialRole(p.role) for p in plan.lanes} | {"confirm": TrialRole.CONFIRM}
        for name, role in roles.items():
            lane = _lane(storage, study_name(plan.run_id, name), name, role)
            if lane is None:
                missing = missing or name
                continue
            if missing:  # they begin in this order
                raise Damaged(f"lane {missing} is missing")
            if lane.directions != directions:
                raise Damaged(f"the directions of lane {name} are not those of plan.json")
            if lane.damaged:
                more = f" (and {len(lane.damaged) - 1} more)" if lane.damaged[1:] else ""
                return [], {}, f"{lane.damaged[0]}{more}"
            records += lane.records
            facts = lane.facts if name == "search" else facts
        return records, facts, ""

    shown, file = without_password(url), sqlite_file(url)
    records, facts, damaged = read_with(url, look) or ([], {}, "")
    if damaged:
        leave_out = f"or start a new run with --warm-start {plan.run_name}, which leaves such trials out"
        raise Damaged(f"{shown} is damaged: {damaged}; {CURE}, {leave_out}")
    if begun and not records:
        lost = "is damaged: it holds no trial" if file is None or file.exists() else "is missing"
        raise Damaged(f"{shown} {lost}; {CURE}")
    return records, facts


def read_study(url: str, run_id: str, lane: str) -> StoredLane:
    """Return one study of another run; changes nothing there.

    Raises:
        UsageError: the storage cannot be read, or has no such study.
    """
    name = study_name(run_id, lane)

    result = read_with(url, lambda storage: _lane(storage, name, lane, TrialRole.SEARCH))
    if result is None:
        raise UsageError(f"{without_password(url)} has no study {name!r}")
    return result


def _lane(storage: optuna.storages.BaseStorage, name: str, lane: str, role: TrialRole) -> StoredLane | None:
    """Return what a study holds, as that of a lane; None if there is no such study."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return None
    attributes = storage.get_study_user_attrs(study)
    found = StoredLane([], facts_of(attributes, lane), [], storage.get_study_directions(study))
    for place, frozen in enumerate(storage.get_all_trials(study, deepcopy=False)):
        try:
            record = record_of(frozen, lane, role, MARK in attributes)
            if frozen.number != place:
                raise Damaged(f"trial {trial_key(lane, place)} is missing")
            found.records.append(record)
        except Damaged as error:
            found.damaged.append(str(error))
    return found
