"""Patches of Ray's private code, and the check of the Ray version that they were written for.

Lost workers: Tune's actor manager knows two ways in which a task of a worker fails, `RayActorError` (the actor is gone)
and `RayTaskError` (the task raised). On any other it raises, and the whole study ends; `OutOfMemoryError` (Ray killed
the worker to save memory) and `NodeDiedError` are such others. The patch reports them as the loss of that one actor, so
that its trial goes back into the queue and the study goes on.

Errors of workers: Tune writes a worker's exception to a pickle and reads it again after `fit`, from a folder or a
bucket that others may be able to write to. The patch keeps the exception in memory; Tune writes and reads text alone.

Loopback: a Ray that runs on one machine listens for the whole network on Linux; the patch turns on what Ray does on
macOS and Windows.

Processes: a Ray of one launch needs neither the server of a dashboard that is off, nor a monitor that would start more
nodes, nor one that collects the workers' output. The patch leaves out these three Python processes: 280 MB, and the
seconds that `ray.init` waits for the first.

Start of workers: the raylet runs `setup_worker.py`, which imports Ray and is replaced by a worker that imports it
again. The patch names another script, see `fork_server.py`.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from tuner.base.errors import UsageError

TESTED = "2.60"  # Ray's minor version; pyproject.toml has the same


def check_ray_version(version: str = ray.__version__) -> None:
    """Raise a UsageError unless Ray has the minor version whose private code is patched and read here."""
    if version.split(".")[:2] != TESTED.split("."):
        raise UsageError(
            f"Ray {version} is installed; this needs Ray {TESTED}: pip install 'ray[tune]=={TESTED}.*'"
        )


def patch_tune() -> None:
    """Patch Tune's handling of lost workers and of their errors, once per process.

    Raises:
        UsageError: Ray is of another minor version.
    """
    check_ray_version()
    # imported here: in another version the private modules may have moved, and the line above says what is wrong
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.tune.error import TuneError
    from ray.tune.experiment import Trial

    task_failed, handle_error = RayActorManager._actor_task_failed, Trial.handle_error
    if hasattr(task_failed, "__wrapped__"):
        return

    @functools.wraps(task_failed)
    def report_as_actor_error(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        task_failed(self, tracked_actor_task=tracked_actor_task, exception=as_actor_error(exception))

    @functools.wraps(handle_error)
    def keep_in_memory(self: Any, exc: Exception | None = None) -> None:
        self.temporary_state.worker_error = exc
        handle_error(self, TuneError(str(exc)))  # Tune makes pickles of Ray's own errors only

    RayActorManager._actor_task_failed = report_as_actor_error  # type: ignore[method-assign]
    Trial.handle_error = keep_in_memory  # type: ignore[method-assign]


def worker_error(trial: Any) -> Exception | None:
    """Return the exception that a trial's worker ended with, None if it was not lost and did not raise."""
    error: Exception | None = getattr(trial.temporary_state, "worker_error", None)
    return error


def listen_on_loopback_only() -> None:
    """Have a Ray that is started by this process listen at 127.0.0.1 and nowhere else."""
    check_ray_version()
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes that Ray starts


@contextlib.contextmanager
def needed_processes_only() -> Iterator[None]:
    """Within this, a Ray that is started here has a GCS and a raylet with its agents, and nothing besides."""
    check_ray_version()
    from ray._private.node import Node

    def no_server(self: Any, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        self._webui_url = ""

    with contextlib.ExitStack() as stack:
        for name, substitute in (
            ("start_api_server", no_server),
            ("start_monitor", lambda self: None),
            ("start_log_monitor", lambda self: None),
        ):
            stack.callback(setattr, Node, name, getattr(Node, name))
            setattr(Node, name, substitute)
        yield


@contextlib.contextmanager
def workers_started_by(script: Path) -> Iterator[None]:
    """Within this, a Ray that is started here starts its Python workers by a script of one's own."""
    check_ray_version()
    from ray._private.node import Node

    start_raylet = Node.start_raylet

    @functools.wraps(start_raylet)
    def with_script(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._ray_params.setup_worker_path = str(script)
        return start_raylet(self, *args, **kwargs)

    Node.start_raylet = with_script  # type: ignore[method-assign]
    try:
        yield
    finally:
        Node.start_raylet = start_raylet  # type: ignore[method-assign]


def as_actor_error(exception: Exception) -> Exception:
    """Return a `RayActorError` for an error of Ray that Tune does not handle, any other exception as it is."""
    if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
        return RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
    return exception
