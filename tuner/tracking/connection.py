"""Opens MLflow's tracking store with short timeouts, and checks before a study starts whether it may be used.

mlflow is imported inside functions: importing this module is cheap.
"""

import getpass
import logging
import os
from typing import Any

from trainables.base.permissions import created, make_folder, make_private_folder
from tuner.base.errors import UsageError
from tuner.base.text import one_line
from tuner.base.urls import connect_arguments, is_database, redact, resolved, sqlite_file, without_secrets

CONNECT_S = 10  # how long the first connection to a database may take
# in the answers of PostgreSQL, MySQL and SQL Server to a wrong user or password
_DENIED = ("authentication failed", "no password supplied", "access denied", "login failed", "does not exist")


def open_store(uri: str) -> tuple[Any, Any]:
    """Return a client for the store and MLflow's module of entities.

    Raises:
        Exception: a database does not answer; a server is asked only by the first request.
    """
    # MLflow repeats a request for four minutes by default; the delivery thread repeats it with increasing pauses.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow.entities

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    database = sqlite_file(uri)
    if database is not None:
        make_folder(database.parent)
        created(database, private=True)
    elif is_database(uri):
        _probe(uri)
    return mlflow.MlflowClient(tracking_uri=uri), mlflow.entities


def check_access(uri: str, experiment: str) -> str:
    """Send one request to the store to see whether this user may use it.

    Returns:
        "" or, if the store does not answer, one line that says so; a study can start without it.

    Raises:
        UsageError: the store answers and refuses the credentials, or the database's driver is not installed.
    """
    if sqlite_file(uri) is not None:
        return ""
    shown = redact(uri)
    try:
        client, _ = open_store(resolved(uri))
        client.get_experiment_by_name(experiment)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"tracking URI {shown}: {error}; for PostgreSQL pip install psycopg2-binary"
        ) from None
    except Exception as error:
        if is_database(uri) and any(words in str(error).lower() for words in _DENIED):
            raise UsageError(f"the MLflow database {shown} refuses: {_reason(error, uri)}") from None
        status = getattr(error, "get_http_status_code", lambda: 0)()
        if not is_database(uri) and status in (401, 403):
            raise UsageError(
                f"the MLflow server {shown} refuses these credentials ({status}); set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            ) from None
        return f"MLflow at {shown} does not answer; the study runs, its events are kept and sent once it does"
    return ""


def artifact_folder(uri: str) -> str | None:
    """Make and return where a new experiment keeps its artifacts: beside an SQLite file; a server decides for itself.

    MLflow's own choice is `mlruns` in the folder the process happens to run in.
    """
    database = sqlite_file(uri)
    if database is None:
        return None
    make_private_folder(database.parent / "mlruns")
    return (database.parent / "mlruns").as_uri()


def user_name() -> str:
    """Return the name of this process's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _probe(uri: str) -> None:
    """Connect once: MLflow would repeat its own first connection for minutes and cannot be interrupted."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        uri, poolclass=sqlalchemy.NullPool, connect_args=connect_arguments(uri, CONNECT_S)
    )
    engine.connect().close()


def _reason(error: Exception, uri: str) -> str:
    """Return the database's own message, without the text that SQLAlchemy adds."""
    return one_line(without_secrets(getattr(error, "orig", None) or error, uri))
