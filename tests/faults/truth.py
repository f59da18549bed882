"""All that a finished run says, without wall-clock times and the count of starts: equal or not, to the last bit."""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import torch

from trainables.training.checkpoints import unpack
from tuner.base.urls import with_driver

IGNORED = ("attempt", "starts")  # how often a trial was started is what kills may change


def timeless(value: Any) -> Any:
    """Return a JSON value without its checksum and without what a clock or a count of starts says."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"value", "sum"}:
        return timeless(value["value"])
    return {k: timeless(v) for k, v in value.items() if "seconds" not in k and k not in IGNORED}


def truth_of(run: Path, url: str = "") -> dict[str, Any]:
    """Return what a run came to.

    Args:
        run: its folder; `launch.py` was started in the folder that holds its root, where MLflow's database lies too.
        url: of the study's database, if it is not in the folder.
    """
    folder = run.parent.parent
    plan = json.loads((run / "plan.json").read_text())
    found = studies(with_driver(url) or f"sqlite:///{run / 'study.db'}", run_id_of(run))
    return {
        "plan": {k: plan[k] for k in ("content_hash", "seed", "finished", "read_by_search")},
        "studies": found,
        "checkpoints": {
            str(path.relative_to(run)): checkpoint(path) for path in sorted(run.glob("checkpoints/*/*"))
        },
        "evaluations": {p.name: arrays(p) for p in sorted(run.glob("evaluations/*.npz"))},
        "trials.csv": rows(run / "trials.csv"),
        "arms.csv": rows(run / "arms.csv"),
        "reports": sorted(p.name for p in run.glob("report.*")),
        "mlflow": mlflow_runs(f"sqlite:///{folder / 'mlflow.db'}", run_id_of(run)),
    }


def run_id_of(run: Path) -> str:
    """Return the id under which the database and MLflow know the run of a folder."""
    run_id: str = json.loads((run / "plan.json").read_text())["plan"]["run_id"]
    return run_id


def studies(url: str, run_id: str) -> dict[str, Any]:
    """Return {lane: its facts and trials} of a run, read with plain Optuna."""
    found = {}
    for study in optuna.get_all_study_summaries(url):
        if study.study_name.split("/")[0] == run_id:
            loaded = optuna.load_study(study_name=study.study_name, storage=url)
            found[study.study_name.removeprefix(run_id)] = {
                "facts": {
                    k: v for k, v in timeless(loaded.user_attrs).items() if k != "checksums"
                },  # its name
                "trials": [trial(t) for t in loaded.get_trials()],
            }
    return found


def trial(frozen: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        "number": frozen.number,
        "state": frozen.state.name,
        "params": frozen.params,
        "values": frozen.values,
        "steps": frozen.intermediate_values,
        "constraints": dict(frozen.constraints),
        **{k: timeless(v) for k, v in frozen.user_attrs.items() if k not in IGNORED},
    }


def checkpoint(path: Path) -> Any:
    """Return a checkpoint's content, each tensor as its hash."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return hashlib.sha256(value.numpy().tobytes()).hexdigest(), str(value.dtype), list(value.shape)
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return plain(unpack(path.read_bytes(), str(path)))


def arrays(path: Path) -> dict[str, str]:
    with np.load(path, allow_pickle=False) as file:
        return {name: hashlib.sha256(file[name].tobytes()).hexdigest() for name in file.files}


def rows(path: Path) -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        return [timeless(row) for row in csv.DictReader(file)]


def mlflow_runs(uri: str, run_id: str) -> dict[str, Any]:
    """Return {trial's key: status, tags, params and every point of every metric} of the one parent run."""
    store = mlflow.MlflowClient(uri)
    experiments = [e.experiment_id for e in store.search_experiments()]
    parents = store.search_runs(experiments, f"tags.run_id = '{run_id}'")
    assert len(parents) == 1, [p.info.run_name for p in parents]
    query = f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'"
    found: dict[str, Any] = {"": parents[0].info.status}
    for child in store.search_runs(experiments, query, max_results=1000):
        tags = {
            k: child.data.tags.get(k) for k in ("trial", "role", "state", "arm", "seed", "reason", "lane")
        }
        key = f"{tags['lane']} {tags['trial']}"
        assert key not in found, f"two MLflow runs of {key}"
        points = {}
        for metric in sorted(child.data.metrics):
            if "seconds" not in metric and not metric.startswith("system/"):
                history = store.get_metric_history(child.info.run_id, metric)
                points[metric] = sorted((m.step, m.value) for m in history)  # MLflow sorts them by the clock
        found[key] = {
            "status": child.info.status,
            "tags": tags,
            "params": child.data.params,
            "points": points,
        }
    return found


def ended(lanes: dict[str, Any]) -> dict[str, Any]:
    """Return all that is known of the trials that have ended, by lane and number."""
    return {
        f"{lane} {trial['number']}": trial
        for lane, found in lanes.items()
        for trial in found["trials"]
        if trial["state"] != "RUNNING"
    }


def miscounts(lanes: dict[str, Any], tracked: dict[str, Any], trials: int) -> list[str]:
    """Return what is missing or double in the searches of a finished run, one line each.

    Args:
        lanes: of `studies`.
        tracked: of `mlflow_runs`.
        trials: that each search should have.
    """
    lines = []
    steps = {}
    for lane, found in lanes.items():
        name = lane.strip("/") or "search"
        if name == "confirm":
            continue
        numbers = [trial["number"] for trial in found["trials"]]
        if numbers != list(range(trials)):
            lines.append(f"{name}: trials {numbers}")
        if len({str(sorted(trial["params"].items())) for trial in found["trials"]}) != len(numbers):
            lines.append(f"{name}: a configuration twice")
        for trial in found["trials"]:
            epochs = sorted(int(key.partition("/")[2]) for key in trial if key.startswith("epoch/"))
            if trial["state"] not in ("COMPLETE", "PRUNED") or epochs != list(range(1, len(epochs) + 1)):
                lines.append(f"{name} {trial['number']}: {trial['state']}, epochs {epochs}")
            steps[name, trial["number"]] = trial["state"], epochs
    children = {}
    for key, child in tracked.items():
        if key:
            number = int(child["tags"]["trial"].rpartition("-")[2])
            points = child["points"]["passes"]
            children[child["tags"]["lane"], number] = child["tags"]["state"], [step for step, _ in points]
    return lines + [f"MLflow: {line}" for line in differences(steps, children)]


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Return where two values differ, one line each."""
    if isinstance(a, dict) and isinstance(b, dict):
        lines = []
        for key in sorted({*a, *b}, key=str):
            if key not in a or key not in b:
                lines.append(f"{where}/{key} is only in the {'second' if key in b else 'first'}")
            else:
                lines += differences(a[key], b[key], f"{where}/{key}")
        return lines
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            line
            for i, pair in enumerate(zip(a, b, strict=True))
            for line in differences(*pair, f"{where}/{i}")
        ]
    return [] if a == b else [f"{where}: {str(a)[:200]} != {str(b)[:200]}"]
