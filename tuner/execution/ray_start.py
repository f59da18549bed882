"""Starts Ray on this machine or connects to a cluster."""

import atexit
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ray

from trainables.base.user_code import APPROVED
from tuner.base import environment
from tuner.base.errors import Interrupted, StudyHalted
from tuner.base.text import one_line
from tuner.execution.cluster_address import check_answers, no_cluster
from tuner.execution.ray_patch import listen_on_loopback_only, needed_processes_only, workers_started_by
from tuner.execution.ray_session import make_session_folder, remove_at_exit
from tuner.execution.worker_start import SOCKET

FORK_SERVER, WORKER_START = (
    Path(__file__).with_name(f"{name}.py") for name in ("fork_server", "worker_start")
)


def start_ray(address: str | None) -> None:
    """Connect to the cluster at an address ("auto" or HOST:PORT), or start Ray here for this launch.

    A Ray that is started here answers on this machine alone and only to who has the user's token; its files are in a
    folder that no other user may enter.

    Raises:
        UsageError: no cluster answers at the address; RAY_TMPDIR or the token's file does not suit.
        StudyHalted: Ray does not start here.
        Interrupted: SIGTERM came while Ray's own handler was in place.
    """
    try:
        if address is None:
            _start_here()
        else:
            _join(address)
    except SystemExit:
        raise Interrupted(143) from None


def _start_here() -> None:
    os.environ.pop("RAY_AUTH_MODE", None)  # by default a Ray that is started here wants the token
    environment.protect_ray_token(make="RAY_AUTH_TOKEN" not in os.environ)
    try:
        _check_loopback()
        folder = make_session_folder()
    except OSError as error:
        raise StudyHalted(f"Ray does not start here ({_reason(error)}); mend that") from error
    listen_on_loopback_only()
    try:
        with needed_processes_only(), _forked_workers(folder.parent):
            _init("local", folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyHalted(
            f"Ray does not start here ({_reason(error)}; its logs are in {folder}); mend that"
        ) from error
    remove_at_exit(folder)


@contextlib.contextmanager
def _forked_workers(folder: Path) -> Iterator[None]:
    """Within this, a Ray that is started here forks its workers, on Linux; see `fork_server.py`.

    Args:
        folder: that of the session, above Ray's own.
    """
    if sys.platform != "linux":
        yield
        return
    with open(folder / "workers.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(FORK_SERVER), str(folder / SOCKET)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the driver
            env=os.environ
            | {"JE_ARROW_MALLOC_CONF": "background_thread:false"},  # or nothing could be forked
        )
    atexit.register(_end, server)
    # `ray.init` would wait for workers, and Ray for 60 s: both for the imports of the server
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "180")
    with workers_started_by(WORKER_START):
        yield


def _end(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def _check_loopback() -> None:
    """Raise an OSError if this machine cannot connect to itself, as in a container without network; Ray would wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=10).close()


def _join(address: str) -> None:
    environment.protect_ray_token()
    check_answers(address)
    try:
        _init(address)
    except (OSError, ValueError, RuntimeError) as error:
        raise no_cluster(address, error) from error


def _init(address: str, session_folder: Path | None = None) -> None:
    code = environment.variable(APPROVED)  # workers that are started here inherit it
    ray.init(
        address=address,
        include_dashboard=False if session_folder else None,
        _temp_dir=str(session_folder) if session_folder else None,
        runtime_env=None if session_folder or not code else {"env_vars": {APPROVED: code}},
        log_to_driver=False,
        logging_level=logging.ERROR,
        ignore_reinit_error=True,
    )


def _reason(error: Exception) -> str:
    return one_line(error, limit=None)[:200]
