"""Patch of Ray Tune's private `RayActorManager`, and the check of the Ray version that it was written for.

Tune's actor manager knows two ways in which a task of a worker fails: `RayActorError` (the actor is gone) and
`RayTaskError` (the task raised). On any other it raises, and the whole study ends; `OutOfMemoryError` (Ray killed the
worker to save memory) and `NodeDiedError` are such others. The patch reports them as the loss of that one actor, so
that its trial goes back into the queue and the study goes on.
"""

import functools
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


def report_lost_workers_as_actor_errors() -> None:
    """Patch `RayActorManager._actor_task_failed`, once per process.

    Raises:
        UsageError: Ray is of another minor version.
    """
    check_ray_version()
    # imported here: in another version the private module may have moved, and the line above says what is wrong
    from ray.air.execution._internal.actor_manager import RayActorManager

    original = RayActorManager._actor_task_failed
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def patched(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        original(self, tracked_actor_task=tracked_actor_task, exception=as_actor_error(exception))

    RayActorManager._actor_task_failed = patched  # type: ignore[method-assign]


def as_actor_error(exception: Exception) -> Exception:
    """Return a `RayActorError` for an error of Ray that Tune does not handle, any other exception as it is."""
    if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
        return RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
    return exception
