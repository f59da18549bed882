"""One trial at a time, killed with kill -9 at every stage and resumed: everything is as if nothing had happened.

Each test is one run that is killed again and again, at a chosen call inside the driver or a worker, and resumed at once
each time. At the end its database, checkpoints, scores, tables and MLflow runs are compared with those of a run that
was left alone, bit for bit.
"""

from typing import Any

import pytest

from tests.faults.conftest import Study, at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


WRITE, NOTE = "trainables.base.storage:Folder.write", "tuner.store.trial_store:TrialStore.note"
ASK, REPORT, FINISH = (f"tuner.store.trial_store:TrialStore.{name}" for name in ("ask", "report", "finish"))
STORAGE = "optuna.storages._rdb.storage:RDBStorage"
ATTRIBUTE, STATE = f"{STORAGE}._set_trial_attr_without_commit", f"{STORAGE}.set_trial_state_values"

#: The run goes on, a worker dies: in mid-epoch; with its checkpoint half on the disk; with its checkpoint written and
#: not reported; idle, between two trials; while it evaluates.
WORKERS = (
    at("trainables.training.method:Trainer.step", "kill", call=5),
    at("trainables.base.storage:os.fsync", "kill", call=3, of="workers"),
    at(WRITE, "kill", "0001/epoch-0001", after=True),
    at(FINISH, "kill-workers", call=3, after=True),
    at("tuner.execution.remote_tasks:evaluate_checkpoint", "kill"),
)
#: The driver dies, or all do: some of each stage, for every push.
SOME = (
    at(WRITE, "kill-all", "0000/epoch-0002", after=True),  # written and not reported
    at(ATTRIBUTE, "kill", "epoch/", call=6, after=True),  # the epoch is written and not committed
    at("tuner.execution.remote_tasks:evaluate_checkpoint", "kill-all", call=2),
    at("tuner.commands.publishing:write_report", "kill", after=True),
)
#: The rest.
OTHERS = (
    at("tuner.store.run_folder:RunFolder.create", "kill", after=True),
    at("tuner.execution.remote_tasks:load_benchmark", "kill-all"),
    at(
        "tuner.execution.remote_tasks:pretrained_state", "kill-all", after=True
    ),  # cached, and the study does not know
    at(NOTE, "kill", "reference"),
    at(ASK, "kill", after=True),  # a trial that no worker has seen
    at("trainables.training.method:Trainer.step", "kill-all", call=20),
    at("trainables.base.storage:os.fsync", "kill-all", call=3, of="workers"),
    at(
        "trainables.ray.trial_runner:validate", "kill-launch", call=3
    ),  # the worker outlives the driver and its supervisor, and writes
    at(REPORT, "kill", call=2),
    at(REPORT, "kill", after=True),  # the decision stands and is not carried out
    at(FINISH, "kill"),
    at(STATE, "kill"),  # the floors are stored and the end is not
    at(FINISH, "kill", after=True),  # the last of the search
    at(WRITE, "kill", "evaluations/", call=2, after=True),  # scores without the metrics
    at(NOTE, "kill", "evaluation/", after=True),
    at(ASK, "kill", call=2, after=True),  # by now of the confirm stage
    at(WRITE, "kill-all", "confirm-0001/epoch-0003", after=True),
    at(FINISH, "kill", after=True),
    at(NOTE, "kill", "evaluation/confirm", call=2),
    at("tuner.commands.winner_model:log_winner", "kill", after=True),
    at("tuner.store.run_folder:RunFolder.update", "kill", "True"),  # all done, and not said so
    at("tuner.tracking.tracker:Tracker.close", "kill"),
)


def test_the_reference_is_worth_comparing_with(whole: dict[str, Any]) -> None:
    states = [t["state"] for lane in whole["studies"].values() for t in lane["trials"]]
    assert states.count("COMPLETE") >= 5
    assert "PRUNED" in states
    assert whole["plan"]["finished"]
    assert whole["plan"]["read_by_search"] == ["train", "val_id", "val_ood_far", "val_ood_near"]
    assert len(whole["evaluations"]) == states.count("COMPLETE")
    assert len(whole["mlflow"]) == 1 + len(states)
    assert whole["mlflow"][""] == "FINISHED"


def test_workers_killed(study: Study, whole: dict[str, Any]) -> None:
    study.completed("run", *WORKERS)
    study.check("run", whole)


def test_drivers_killed(study: Study, whole: dict[str, Any]) -> None:
    for fault in SOME:
        study.killed("run", fault)
    study.completed("run")
    study.check("run", whole)


@pytest.mark.long
def test_killed_at_every_other_moment(study: Study, whole: dict[str, Any]) -> None:
    for fault in OTHERS:
        study.killed("run", fault)
    study.completed("run")
    study.check("run", whole)
