"""Two trials at a time, workers and drivers killed at random moments: nothing lost, nothing twice.

With several workers the order of reports decides what sampler and rungs know, so a run is not repeated bit for bit;
what must hold is counted here.
"""

from typing import Any

import optuna
import pytest

from tests.faults.conftest import Study, at
from tests.faults.truth import mlflow_runs, studies
from tuner.base.records import TrialRole
from tuner.store.trial_reader import record_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BATCH, WRITE, VALIDATE = (
    "trainables.training.method:Trainer.step",
    "trainables.base.storage:Folder.write",
    "trainables.ray.trainable:validate",
)
TRIALS = 5
SEARCH = ["--stages", "search", "--trials", str(TRIALS), "--concurrency", "2"]


def ended(lanes: dict[str, Any]) -> dict[str, Any]:
    """Return all that is known of the trials that have ended, starts included."""
    return {
        f"{lane} {trial['number']}": trial
        for lane, found in lanes.items()
        for trial in found["trials"]
        if trial["state"] != "RUNNING"
    }


def starts(url: str) -> dict[str, tuple[str, ...]]:
    """Return how often each trial was started, as the database says it."""
    found = {}
    for summary in optuna.get_all_study_summaries(url):
        for trial in optuna.load_study(study_name=summary.study_name, storage=url).get_trials():
            record = record_of(trial, "search", TrialRole.SEARCH)
            found[f"{summary.study_name.removeprefix('run')} {trial.number}"] = record.starts
    return found


def test_nothing_lost_and_nothing_twice(study: Study) -> None:
    count = at(VALIDATE, "nothing", times=10_000)
    database = f"sqlite:///{study.folder('run') / 'study.db'}"
    validations, kills = 0, 0
    for fault in (
        at(BATCH, "kill-all", call=30),
        at(WRITE, "kill-all", "epoch-", call=4, after=True),
    ):
        study.faults.arm(fault, count)
        done = study.run("run", *SEARCH)
        assert done.code == -9, done.out + done.err
        validations, kills = validations + study.faults.count(1), kills + 2
        before, begun = ended(studies(database, "run")), starts(database)
    faults = (at(BATCH, "kill", call=10), at(WRITE, "kill", "epoch-", call=3), count)
    study.faults.arm(*faults)
    done = study.run("run", *SEARCH)
    assert done.code == 0, done.out + done.err
    validations, kills = validations + study.faults.count(2), kills + 2

    lanes = studies(database, "run")
    after = ended(lanes)
    assert {key: after[key] for key in before} == before  # no finished trial was touched
    assert {key: starts(database)[key] for key in before} == {key: begun[key] for key in before}
    trained = 0
    for name in ("", "/oe"):
        trials = lanes[name]["trials"]
        assert [t["number"] for t in trials] == list(range(TRIALS))
        assert {t["state"] for t in trials} <= {"COMPLETE", "PRUNED"}
        suggestions = [tuple(sorted(t["params"].items())) for t in trials]
        assert len(set(suggestions)) == TRIALS
        for trial in trials:
            epochs = [int(k.partition("/")[2]) for k in trial if k.startswith("epoch/")]
            assert sorted(epochs) == list(range(1, len(epochs) + 1))
            assert trial["state"] == "PRUNED" or len(epochs) == 3
            trained += len(epochs)
    assert trained <= validations <= trained + kills
    children = mlflow_runs(f"sqlite:///{study.launcher.folder / 'mlflow.db'}", "run")
    assert len(children) == 1 + 2 * TRIALS
    for key, child in children.items():
        if key:
            lane, number = child["tags"]["lane"], int(child["tags"]["trial"].rpartition("-")[2])
            trial = lanes["" if lane == "search" else f"/{lane}"]["trials"][number]
            steps = [step for step, _ in child["points"]["val/accuracy/clean"]]
            assert steps == [int(k.partition("/")[2]) for k in sorted(trial) if k.startswith("epoch/")]
            assert child["tags"]["state"] == trial["state"]
