"""Opening the database of the Optuna studies: SQLite, or a server that may be restarted during a run."""

import logging
import time
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from trainables.base.permissions import created
from tuner.base.errors import UsageError
from tuner.base.urls import connect_arguments, sqlite_file, with_driver, without_password, without_secrets

log = logging.getLogger(__name__)

SERVER_AWAY_S = 600.0
CONNECT_S = 30  # how long one connection to a server may take


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open (or create) the study's database.

    A local SQLite file is put into write-ahead mode: a tenth of the default's cost per write, and still no
    transaction is lost when the process is killed.

    Raises:
        UsageError: the URL cannot be opened.
    """
    try:
        if not url.startswith("sqlite"):
            return _server_storage(url)
        if (file := sqlite_file(url)) is not None:
            created(file, private=True)
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        from sqlalchemy import event

        @event.listens_for(storage.engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # connections from before the listener
        return storage
    except Exception as error:
        reason = without_secrets(str(error).splitlines()[0], url)
        raise UsageError(f"cannot open the study storage {without_password(url)}: {reason}") from error


def _server_storage(url: str) -> optuna.storages.RDBStorage:
    """Open a database server that may be restarted while we use it.

    Every transaction begins on a connection that was tested; while none can be made the driver waits, up to
    `SERVER_AWAY_S`. A transaction that was open when the server went down raises, see `connection_lost`.
    """
    engine = {"pool_pre_ping": True, "connect_args": connect_arguments(url, CONNECT_S)}
    storage = optuna.storages.RDBStorage(with_driver(url), engine_kwargs=engine)
    from sqlalchemy import event

    @event.listens_for(storage.engine, "do_connect")  # from now on: a wrong URL has failed above, at once
    def _connect_patiently(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        started, said = time.monotonic(), False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() - started > SERVER_AWAY_S:
                    raise
                if not said:
                    reason = without_secrets(str(error).splitlines()[0], url)
                    log.warning("the study's database is away (%s); waiting", reason)
                said = True
                time.sleep(1.0)

    return storage


def connection_lost(error: BaseException) -> bool:
    """Return whether an exception says that the database server went away in the middle of a transaction."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, DBAPIError) and cause.connection_invalidated
