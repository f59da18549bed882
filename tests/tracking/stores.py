"""What the tests of tracking write into a store, and what they read back."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tuner.base.urls import resolved
from tuner.tracking.tracker import Tracker

EXPERIMENT = "aoe"


@cache
def empty_store() -> Path:
    """Return an initialised database to copy: making its tables takes seconds."""
    from mlflow import MlflowClient

    folder = tempfile.mkdtemp(prefix="store-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    path.chmod(0o600)
    return path


def copy_empty_store(folder: Path) -> Path:
    """Put an empty store into a folder, where launches that are started in it find it; return its file."""
    return Path(shutil.copy(empty_store(), folder / "mlflow.db"))


def tracker_for(
    uri: str, spool: Path, run: str = "aoe-1", experiment: str = EXPERIMENT, run_id: str = "aoe-1-abc"
) -> Tracker:
    return Tracker(uri, experiment, run, run_id, spool, {"study": experiment}, interval_s=0.05)


def feed(tracker: Tracker, key: str, begin: int, end: int) -> None:
    """Report the epochs from `begin` to before `end`."""
    for step in range(begin, end):
        tracker.metrics(key, step, {"val/accuracy": step / 10, "loss": 1 / step})


def runs_of(uri: str, experiment: str = EXPERIMENT) -> tuple[list[Any], dict[str, Any]]:
    """Return the study's runs and the children by key; fails on a doubled child."""
    from mlflow import MlflowClient

    client = MlflowClient(resolved(uri))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = list(client.search_runs([found.experiment_id], max_results=1000))
    parents = [run for run in runs if "run" in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == len(parents) + len(children)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {run.info.run_id for run in parents}
    by_key = {run.data.tags["key"]: run for run in children}
    assert len(by_key) == len(children)
    return parents, by_key


def history(uri: str, run: Any, name: str) -> list[tuple[int, float]]:
    """Return [(step, value)] of a metric, as often as it is stored."""
    from mlflow import MlflowClient

    return [(m.step, m.value) for m in MlflowClient(resolved(uri)).get_metric_history(run.info.run_id, name)]


def steps(uri: str, run: Any, name: str = "loss") -> list[int]:
    return sorted(step for step, _ in history(uri, run, name))


def spooled(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
