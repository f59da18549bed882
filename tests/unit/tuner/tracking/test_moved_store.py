"""Artifact addresses of an MLflow store in a folder that was moved or copied."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tuner.tracking.moved_store import follow_move

TABLES = """
CREATE TABLE experiments (artifact_location TEXT);
CREATE TABLE runs (artifact_uri TEXT);
CREATE TABLE logged_models (artifact_location TEXT);
CREATE TABLE model_versions (source TEXT, storage_location TEXT);
"""


def store(folder: Path, location: Path | None = None) -> Path:
    """Make a store with one run, one model and their artifacts, as MLflow lays them out."""
    home = location or folder / "mlruns"
    for path in (home / "r1" / "artifacts", home / "models" / "m-1" / "artifacts", folder / "mlruns"):
        path.mkdir(parents=True, exist_ok=True)
    uri = home.as_uri()
    connection = sqlite3.connect(folder / "mlflow.db")
    connection.executescript(TABLES)
    connection.execute("INSERT INTO experiments VALUES (?)", (uri,))
    connection.execute("INSERT INTO experiments VALUES ('mlflow-artifacts:/1')")
    connection.execute("INSERT INTO runs VALUES (?)", (f"{uri}/r1/artifacts",))
    connection.execute("INSERT INTO logged_models VALUES (?)", (f"{uri}/models/m-1/artifacts",))
    connection.execute(
        "INSERT INTO model_versions VALUES ('models:/m-1', ?)", (f"{uri}/models/m-1/artifacts",)
    )
    connection.commit()
    connection.close()
    return folder


def addresses(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "mlflow.db")
    found = [
        value
        for table in ("experiments", "runs", "logged_models", "model_versions")
        for row in connection.execute(f"SELECT * FROM {table}")
        for value in row
    ]
    connection.close()
    return found


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@pytest.mark.parametrize("copied", [False, True])
def test_artifacts_are_found_where_the_store_is_now(tmp_path: Path, copied: bool) -> None:
    old, new = store(tmp_path / "old folder"), tmp_path / "new ü"
    if copied:
        shutil.copytree(old, new)
    else:
        old.rename(new)
    assert follow_move(uri(new)) == f"MLflow's store was moved: 4 paths of artifacts now lead to {new}/mlruns"
    home = (new / "mlruns").as_uri()
    assert addresses(new) == [
        home, "mlflow-artifacts:/1", f"{home}/r1/artifacts", f"{home}/models/m-1/artifacts", "models:/m-1",
        f"{home}/models/m-1/artifacts",
    ]  # fmt: skip
    assert follow_move(uri(new)) == ""
    if copied:
        assert addresses(old)[0] == (old / "mlruns").as_uri()


def test_a_folder_whose_name_only_begins_alike_is_another(tmp_path: Path) -> None:
    old = store(tmp_path / "old")
    with sqlite3.connect(old / "mlflow.db") as connection:
        connection.execute("INSERT INTO runs VALUES (?)", (f"{(old / 'mlruns').as_uri()}2/r2/artifacts",))
    connection.close()
    old.rename(tmp_path / "new")
    assert follow_move(uri(tmp_path / "new"))
    assert f"{(old / 'mlruns').as_uri()}2/r2/artifacts" in addresses(tmp_path / "new")


def test_artifacts_kept_elsewhere_stay_there(tmp_path: Path) -> None:
    kept = store(tmp_path / "a", tmp_path / "elsewhere" / "mlruns")
    before = addresses(kept)
    assert follow_move(uri(kept)) == ""
    assert addresses(kept) == before


def test_another_way_to_the_same_folder_is_no_move(tmp_path: Path) -> None:
    folder = store(tmp_path / "real")
    (tmp_path / "link").symlink_to(folder)
    before = addresses(folder)
    assert follow_move(uri(tmp_path / "link")) == ""
    assert addresses(folder) == before


def test_a_copy_that_lacks_artifacts_still_reads_the_originals(tmp_path: Path) -> None:
    old, new = store(tmp_path / "old"), tmp_path / "new"
    shutil.copytree(old, new)
    shutil.rmtree(new / "mlruns" / "r1")
    assert follow_move(uri(new)) == ""
    assert addresses(new) == addresses(old)


def test_what_is_no_store_of_mlflow_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    assert follow_move(uri(tmp_path)) == ""
    assert not (tmp_path / "mlflow.db").exists()
    sqlite3.connect(tmp_path / "mlflow.db").close()
    assert follow_move(uri(tmp_path)) == ""
    (tmp_path / "mlflow.db").write_text("no database, but a text of some length that is none")
    assert "artifact paths cannot be checked: file is not a database" in follow_move(uri(tmp_path))
    assert follow_move("http://127.0.0.1:5000") == ""
    assert follow_move("postgresql://me@h/db") == ""
