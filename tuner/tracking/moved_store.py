"""Finds the artifacts of an MLflow store again whose folder was moved or copied.

MLflow stores absolute paths with every experiment, run and model. Artifacts of a store in an SQLite file lie beside it,
in `mlruns` (`tuner.tracking.connection.artifact_folder`), and so can be found. Imports no mlflow.
"""

import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuner.base.text import counted, one_line
from tuner.base.urls import sqlite_file

#: (table, column) of MLflow's database with the address of an artifact folder or of what lies in it
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_WAIT_S = 10.0  # for another process that writes


def follow_move(uri: str) -> str:
    """Let an SQLite store's artifact addresses point to the `mlruns` beside it, where the artifacts are there.

    An address elsewhere stays as it is unless everything that lies there lies beside the store, too.

    Returns:
        What was done, or why it could not be, on one line; "" where there was nothing to do.
    """
    database = sqlite_file(uri)
    if database is None or not database.is_file() or not (database.parent / "mlruns").is_dir():
        return ""
    home = database.parent / "mlruns"
    try:
        connection = sqlite3.connect(database, timeout=_WAIT_S)
        try:
            with connection:
                changed = sum(_replaced(connection, old, home.as_uri()) for old in _left(connection, home))
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"MLflow's store {database}: its artifact paths cannot be checked: {one_line(error)}"
    return (
        f"MLflow's store was moved: {counted(changed, 'path')} of artifacts now lead to {home}"
        if changed
        else ""
    )


def _left(connection: sqlite3.Connection, home: Path) -> list[str]:
    """Return the addresses of the `mlruns` folders that the artifacts were in before."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {table for table, _ in _ADDRESSES} <= tables:  # not MLflow's, or not of this version
        return []
    found = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
    others = [address for (address,) in found if address and address != home.as_uri()]
    return [address for address in others if _is_mlruns(address) and _is_here(connection, address, home)]


def _is_mlruns(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "file" and not parts.netloc and parts.path.endswith("/mlruns")


def _is_here(connection: sqlite3.Connection, address: str, home: Path) -> bool:
    """Return whether the artifacts of an address are beside the store: some are, and none is there alone."""
    before = Path(unquote(urlsplit(address).path))
    if before.exists() and before.samefile(home):  # by another way, through a link
        return False
    query = "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ?"
    rows = connection.execute(query, (len(address) + 1, f"{address}/"))
    inside = [Path(unquote(uri[len(address) + 1 :])) for (uri,) in rows]
    here = [path for path in inside if (home / path).exists()]
    alone = [path for path in inside if (before / path).exists() and not (home / path).exists()]
    return not alone and (bool(here) or not before.exists())


def _replaced(connection: sqlite3.Connection, old: str, new: str) -> int:
    """Replace the beginning of every address; return of how many."""
    count = 0
    for table, column in _ADDRESSES:
        begins = f"{column} = ? OR substr({column}, 1, ?) = ?"
        query = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {begins}"
        values = (new, len(old) + 1, old, len(old) + 1, f"{old}/")
        count += connection.execute(query, values).rowcount
    return count
