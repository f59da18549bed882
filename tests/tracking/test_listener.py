"""What of a study reaches a real MLflow store: parameters, tags, data sets, system metrics, what a kill left out."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.stores import runs_of, spooled, steps
from trainables.data.loading.open_dataset import load
from trainables.data.types.splits import Split
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.tracking.listener import TrackingListener, describe_datasets
from tuner.tracking.system_metrics import SystemMetrics
from tuner.tracking.tracker import Tracker

pytestmark = pytest.mark.timeout(240)

STUDY = "aoe_sigma"
BENCHMARK = load("digits-open")


def record(number: int, state: State = State.RUNNING, epochs: int = 0, **more: Any) -> TrialRecord:
    params = {"lr": 0.01 * (number + 1), "attack.epsilon": 0.1}
    history = {
        k: Epoch({"val/score": k / 10, "seconds": 1.0}, Decision.CONTINUE, "") for k in range(1, 1 + epochs)
    }
    fixed = {"epochs": 9, "dataset": "digits-open"}
    found = TrialRecord(
        "search", number, TrialRole.SEARCH, state, params, {**fixed, **params}, 7, history, "", 1, "aoe"
    )
    return replace(found, **more)


def listener_for(uri: str, spool: Path) -> TrackingListener:
    tracker = Tracker(uri, STUDY, "run-1", "run-1-abc", spool, {"study": STUDY}, interval_s=0.05)
    tracker.start()
    plan = resolve(LaunchOptions(STUDY), "run-1")
    listener = TrackingListener(tracker, plan, {"commit": "abc"})
    listener.datasets = describe_datasets(BENCHMARK, "")
    return listener


def play(listener: TrackingListener, trial: TrialRecord, tests: dict[str, float] | None = None) -> None:
    """Tell the listener the life of a trial."""
    listener.started(replace(trial, history={}, state=State.RUNNING))
    for epoch in trial.history:
        listener.epoch(trial, epoch)
    if trial.state is not State.RUNNING:
        listener.ended(trial)
    if tests:
        listener.evaluated(trial, tests)


def test_parameters_tags_and_data_sets(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    listener = listener_for(uri, tmp_path / "spool")
    listener.tracker.inputs("", listener.datasets)
    play(
        listener,
        record(0, State.COMPLETE, 3),
        {"test/auroc/near": 0.9, "test/calibration/ece": 0.05, "test/energy/auroc/near": math.nan},
    )
    play(listener, record(1, State.PRUNED, 1, reason="stopped at epoch 1"))
    confirm = {"lane": "confirm", "role": TrialRole.CONTROL, "arm": "gauss", "seed_index": 2}
    play(listener, record(0, State.COMPLETE, 3, **confirm))
    assert listener.tracker.close("FINISHED", 60) == 0
    assert listener.tracker.problems == []

    (parent,), children = runs_of(uri, STUDY)
    assert parent.data.params == {}
    assert sorted(children) == ["0000", "0001", "confirm-0000"]
    assert children["0000"].data.params == {"lr": "0.01", "attack.epsilon": "0.1"}
    assert children["confirm-0000"].info.run_name == "gauss seed 2"
    assert children["0000"].info.run_name == "t0 eps .1"
    assert children["0001"].data.tags["reason"] == "stopped at epoch 1"
    for run in (parent, *children.values()):
        contexts = {i.dataset.name: i.tags[0].value for i in run.inputs.dataset_inputs}
        assert contexts == {
            "digits-open/train": "training",
            "digits-open/val_id": "validation",
            "digits-open/val_ood_near": "validation",
            "digits-open/val_ood_far": "validation",
            "digits-open/val_corrupted": "validation",
        }
        assert all(i.tags[0].key == "mlflow.data.context" for i in run.inputs.dataset_inputs)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY).experiment_id

    def found(query: str) -> set[str]:
        return {run.data.tags["trial"] for run in client.search_runs([experiment], query)}

    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert found(f"{below} and tags.state = 'COMPLETE' and metrics.`val/score` >= 0.3") == {
        "0",
        "confirm-0000",
    }
    assert found("tags.role = 'search' and tags.method = 'aoe' and params.lr = '0.02'") == {"1"}
    assert found("tags.arm = 'gauss' and tags.seed_index = '2'") == {"confirm-0000"}
    assert found("metrics.`test/auroc/near` > 0.8") == {"0"}
    assert found(
        "dataset.name = 'digits-open/train' and tags.state = 'PRUNED' and attributes.status = 'FINISHED'"
    ) == {"1"}
    text = client.download_artifacts(children["0000"].info.run_id, "configuration.json", str(tmp_path))
    assert json.loads(Path(text).read_text())["epochs"] == 9
    # of the test metrics only those of the headline are metrics
    assert set(children["0000"].data.metrics) == {"val/score", "seconds", "test/auroc/near"}
    text = client.download_artifacts(children["0000"].info.run_id, "evaluation.json", str(tmp_path))
    assert json.loads(Path(text).read_text()) == {
        "test/auroc/near": 0.9, "test/calibration/ece": 0.05, "test/energy/auroc/near": None,
    }  # fmt: skip


def test_the_objective_comes_first(uri: str, tmp_path: Path) -> None:
    """MLflow's comparison of runs opens with the first metric that it was given."""
    listener = listener_for(uri, tmp_path / "spool")
    objective = listener.plan.objectives[0].metric
    metrics = {
        "seconds": 1.0,
        "train/loss": 1.0,
        "val/accuracy/clean": 0.9,
        "val/aupr_in/all": 0.5,
        objective: 0.8,
    }
    play(listener, record(0, State.COMPLETE, history={1: Epoch(metrics, Decision.CONTINUE, "")}))
    assert listener.tracker.close("FINISHED", 60) == 0
    run = runs_of(uri, STUDY)[1]["0000"]
    assert next(iter(run.data.metrics)) == objective
    assert run.data.metrics == metrics


def test_data_sets_are_told_apart_by_content() -> None:
    train, *others = describe_datasets(BENCHMARK, "")
    assert json.loads(train["profile"]) == {"images": {"id": len(BENCHMARK.labelled(Split.TRAIN))}}
    features = json.loads(json.loads(train["schema"])["mlflow_tensorspec"]["features"])
    assert features[0]["tensor-spec"]["shape"] == [-1, 1, 8, 8]
    assert len({entry["digest"] for entry in (train, *others)}) == 1 + len(others)
    assert describe_datasets(load("digits"), "")[0]["digest"] != train["digest"]
    assert not any("test" in entry["name"] for entry in others)  # sealed, and not named either
    assert json.loads(describe_datasets(BENCHMARK, "/data/x")[0]["source"]) == {"uri": "/data/x"}


@pytest.mark.parametrize("spool_is_lost", [False, True])
def test_resume_tells_what_a_kill_left_out(uri: str, tmp_path: Path, spool_is_lost: bool) -> None:
    """The storage is written first: a kill right after it leaves MLflow one event behind."""
    spool = tmp_path / "spool"
    killed = listener_for(uri, spool)
    done, cut, unended, untested = (record(n, State.COMPLETE, 3) for n in range(4))
    play(killed, done, {"test/auroc/near": 0.5})
    play(killed, replace(cut, history={k: cut.history[k] for k in (1, 2)}, state=State.RUNNING))
    play(killed, replace(unended, state=State.RUNNING))
    play(killed, untested)
    assert killed.tracker.close("KILLED", 60) == 0
    if spool_is_lost:
        spool.unlink()
    told = len(spooled(spool)) if spool.exists() else 0

    resumed = listener_for(uri, spool)
    never = record(4, State.FAIL, 1, reason="NaN")
    tests = {done.key: {"test/auroc/near": 0.5}, untested.key: {"test/auroc/near": 0.25}}
    resumed.add_missing([done, cut, unended, untested, never], tests)
    if not spool_is_lost:
        new = [(e["op"], e["key"]) for e in spooled(spool)[told:] if e["key"]]
        assert new == [
            ("metrics", "0001"), ("close", "0001"), ("close", "0002"), ("text", "0003"), ("final", "0003"),
            ("child", "0004"), ("metrics", "0004"), ("close", "0004"),
        ]  # fmt: skip
    assert resumed.tracker.close("FINISHED", 60) == 0
    (parent,), children = runs_of(uri, STUDY)
    assert parent.info.status == "FINISHED"
    assert [children[f"000{n}"].info.status for n in range(5)] == ["FINISHED"] * 4 + ["FAILED"]
    for n, expected in enumerate([[1, 2, 3]] * 4 + [[1]]):
        assert steps(uri, children[f"000{n}"], "val/score") == expected
    assert steps(uri, children["0000"], "test/auroc/near") == [3]
    assert children["0003"].data.metrics["test/auroc/near"] == 0.25


def test_system_metrics_go_on_behind_what_is_there(uri: str, tmp_path: Path) -> None:
    made = time.time() - 100
    for _ in range(2):
        tracker = Tracker(uri, STUDY, "run-1", "run-1-abc", tmp_path / "spool", {}, interval_s=0.05)
        tracker.start()
        system = SystemMetrics(tracker, made, interval_s=0.2)
        system.start()
        before = len(spooled(tmp_path / "spool"))
        while len(spooled(tmp_path / "spool")) < before + 3:
            time.sleep(0.05)
        system.stop()
        tracker.final("", {"best/val/score": 0.5})
        assert tracker.close("FINISHED", 60) == 0
    (parent,), _ = runs_of(uri, STUDY)
    names = {name.removeprefix("system/") for name in parent.data.metrics if name.startswith("system/")}
    assert {"cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_megabytes"} <= names
    found = steps(uri, parent, "system/cpu_utilization_percentage")
    assert len(found) == len(set(found)) >= 4
    assert found[0] >= 500
    assert steps(uri, parent, "best/val/score") == [0]
