"""Starts Ray on this machine or connects to a cluster."""

import logging
import os
import socket
from pathlib import Path

import ray

from trainables.base.user_code import APPROVED
from tuner.base import environment
from tuner.base.errors import Interrupted, StudyHalted
from tuner.base.text import one_line
from tuner.execution.cluster_address import check_answers, no_cluster
from tuner.execution.ray_patch import listen_on_loopback_only, needed_processes_only
from tuner.execution.ray_session import make_session_folder, remove_at_exit

#: Ray starts a worker for each CPU at once; on larger machines most would hold torch in memory for nothing
PRELOADING_CPUS = 8


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
    if (os.cpu_count() or 1) <= PRELOADING_CPUS:
        # workers import torch while the driver goes on, and not once they have something to do
        os.environ.setdefault("RAY_preload_python_modules", "tuner.execution.remote_tasks")
    try:
        with needed_processes_only():
            _init("local", folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyHalted(
            f"Ray does not start here ({_reason(error)}; its logs are in {folder}); mend that"
        ) from error
    remove_at_exit(folder)


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
