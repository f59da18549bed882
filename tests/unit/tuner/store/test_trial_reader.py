"""Reading a study's file while somebody begins to write it: what was torn is read again, what is broken is told."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tuner.base.errors import UsageError
from tuner.store.database import open_storage
from tuner.store.trial_reader import read_study, read_with

ROOT = Path(__file__).parents[4]
TRIAL = """
import sys, optuna
study = optuna.create_study(storage=sys.argv[1], study_name="one", load_if_exists=True)
study.tell(study.ask(), 1.0)
"""


def write_a_trial(url: str) -> None:
    subprocess.run([sys.executable, "-c", TRIAL, url], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    write_a_trial(url)
    return url


def trials(storage: optuna.storages.BaseStorage) -> int:
    (study,) = storage.get_all_studies()
    return storage.get_n_trials(study._study_id)


def test_a_file_at_rest_is_read_once(url: str) -> None:
    looks = []
    assert read_with(url, lambda storage: looks.append(1) or trials(storage)) == 1
    assert len(looks) == 1


@pytest.mark.parametrize("torn", [False, True], ids=["stale", "torn"])
def test_a_file_that_a_driver_began_to_write_is_read_again(url: str, torn: bool) -> None:
    """The first look reads a file that is taken to be at rest, while another process writes to it."""
    looks = []

    def look(storage: optuna.storages.BaseStorage) -> int:
        looks.append(trials(storage))
        if len(looks) == 1:
            write_a_trial(url)
            if torn:
                raise ValueError("half of an old page, half of a new one")
        return looks[-1]

    assert read_with(url, look) == 2
    assert looks == [1, 2]


def test_an_error_of_a_file_at_rest_is_told(url: str) -> None:
    """Whatever Optuna raises on the way: rows of a damaged file may lead it anywhere."""

    def look(storage: optuna.storages.BaseStorage) -> int:
        raise ValueError("no such state")

    with pytest.raises(
        UsageError, match=r"^cannot read the study storage sqlite:.*study\.db: no such state$"
    ):
        read_with(url, look)


def test_a_broken_file_is_told(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"study\.db is damaged: ") as told:
        read_study(url, "one", "search")
    assert "\n" not in str(told.value)


def test_a_file_that_is_being_made_has_nothing_yet(tmp_path: Path) -> None:
    """Read after every statement of a new storage: nothing is in it, nothing is an error, nothing gets written."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    looks: list[bool] = []
    reading = False

    @event.listens_for(Engine, "after_cursor_execute")
    def _read(*_: object) -> None:
        nonlocal reading
        if reading:  # a statement of the reader itself
            return
        reading = True
        try:
            looks.append(bool(read_with(url, lambda storage: storage.get_all_studies())))
        finally:
            reading = False

    try:
        storage = open_storage(url)
        made = len(looks)
        optuna.create_study(storage=storage, study_name="one")
    finally:
        event.remove(Engine, "after_cursor_execute", _read)
    assert made > 20  # tables, indices, two version rows
    assert not any(looks[:made])
    assert read_study(url, "one", "search").records == []


@pytest.mark.parametrize(("table", "column"), [("trials", "study_id"), ("trial_user_attributes", "trial_id")])
def test_a_row_that_has_lost_its_owner_is_damage(tmp_path: Path, table: str, column: str) -> None:
    """SQLite's check of foreign keys lets NULL pass, and Optuna would read a run with one trial or epoch less."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name="one")
    study.ask().set_user_attr("epoch/1", {})
    storage.engine.dispose()
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute(f"UPDATE {table} SET {column} = NULL")
    with pytest.raises(
        UsageError, match=f"study.db is damaged: a row of {table} belongs to nothing; restore it"
    ):
        read_with(url, trials)
