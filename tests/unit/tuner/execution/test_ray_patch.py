"""The patch of Ray's actor manager: what it changes, and that Ray still has what it patches."""

import inspect
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

from tuner.base.errors import UsageError
from tuner.execution import ray_patch

ROOT = Path(__file__).resolve().parents[4]
TASK_ERROR = RayTaskError("step", "Traceback ...", ValueError("no luck"))


@pytest.fixture(autouse=True)
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put Ray's own methods in place for the test, and what was there before back after it."""
    for owner, name in ((RayActorManager, "_actor_task_failed"), (Trial, "handle_error")):
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))


def handled(exception: Exception) -> dict[str, Any]:
    """Return what Ray's actor manager tells the two callbacks of a task that failed with an exception."""
    told: dict[str, Any] = {}
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.update(actor=error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda actor, error: told.update(task=error))
    RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=exception)
    return told


@pytest.mark.parametrize("error", [OutOfMemoryError("killed for memory"), NodeDiedError("node died")])
def test_an_error_that_tune_does_not_know_ends_one_actor_and_not_the_study(error: Exception) -> None:
    with pytest.raises(RuntimeError, match="unexpected exception"):  # else the patch is needed no more
        handled(error)
    ray_patch.patch_tune()
    told = handled(error)
    assert type(told["actor"]) is RayActorError
    assert f"{type(error).__name__}: " in str(told["actor"])
    assert told["task"] is told["actor"]


@pytest.mark.parametrize("error", [TASK_ERROR, RayActorError(error_msg="gone")])
def test_errors_that_tune_knows_stay_as_they_are(error: Exception) -> None:
    before = handled(error)
    ray_patch.patch_tune()
    assert handled(error) == before
    assert before["task"] is error


def test_an_error_that_is_not_rays_still_ends_the_study() -> None:
    ray_patch.patch_tune()
    with pytest.raises(RuntimeError, match="unexpected exception"):
        handled(ValueError("a fault of the driver"))


def test_the_patch_is_applied_once() -> None:
    ray_patch.patch_tune()
    patched = RayActorManager._actor_task_failed
    ray_patch.patch_tune()
    assert RayActorManager._actor_task_failed is patched


def test_ray_still_has_the_method_with_this_signature() -> None:
    assert list(inspect.signature(RayActorManager._actor_task_failed).parameters) == [
        "self",
        "tracked_actor_task",
        "exception",
    ]


@pytest.mark.parametrize("error", [TASK_ERROR, RayActorError(error_msg="gone"), ValueError("no luck")])
def test_the_error_of_a_worker_stays_in_memory_and_no_pickle_is_written_or_read(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "local_path", str(tmp_path))
    before = Trial("none", stub=True)
    before.handle_error(TASK_ERROR)
    assert (tmp_path / "error.pkl").exists()  # else the patch is needed no more
    (tmp_path / "error.pkl").unlink()
    ray_patch.patch_tune()
    trial = Trial("none", stub=True)
    trial.handle_error(error)
    assert ray_patch.worker_error(trial) is error
    assert [path.name for path in tmp_path.iterdir()] == ["error.txt"]
    assert trial.pickled_error_file is None
    assert trial.get_pickled_error() is None


def test_a_trial_without_an_error_has_none() -> None:
    trial = Trial("none", stub=True)
    assert ray_patch.worker_error(trial) is None
    assert trial.temporary_state.ray_actor is None  # which the adapter reads too


@pytest.mark.parametrize("version", ["2.59.1", "2.61.0", "3.0.0.dev0", "2.6.0"])
def test_another_minor_version_is_refused_in_one_line(version: str) -> None:
    with pytest.raises(UsageError, match=f"Ray {version} is installed; this needs Ray 2.60") as caught:
        ray_patch.check_ray_version(version)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["2.60.0", "2.60.7", metadata.version("ray")])
def test_the_tested_version_is_accepted(version: str) -> None:
    ray_patch.check_ray_version(version)


def test_the_requirements_allow_the_tested_version_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    given = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    pins = [r.specifier for r in map(Requirement, given) if r.name == "ray"]
    assert len(pins) == 2
    minor = int(ray_patch.TESTED.partition(".")[2])
    for pin in pins:
        assert pin.contains(f"2.{minor}.0")
        assert not pin.contains(f"2.{minor - 1}.9")
        assert not pin.contains(f"2.{minor + 1}.0")
