"""Two trials at a time, workers and drivers killed at random moments: nothing lost, nothing twice.

With several workers the order of reports decides what sampler and rungs know, so a run is not repeated bit for bit;
what must hold is counted here.
"""

import optuna
import pytest

from tests.faults.conftest import Study, at, check_last_words
from tests.faults.truth import ended, miscounts, mlflow_runs, run_id_of, studies
from tuner.base.records import TrialRole
from tuner.store.trial_reader import record_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BATCH, WRITE, PACK = (
    "trainables.training.method:Trainer.step",
    "trainables.base.storage:Folder.write",
    "trainables.training.checkpoints:pack",
)
TRIALS = 5
SEARCH = ["--stages", "search", "--trials", str(TRIALS), "--concurrency", "2"]


def starts(url: str, run_id: str) -> dict[str, tuple[str, ...]]:
    """Return how often each trial was started, as the database says it."""
    found = {}
    for summary in optuna.get_all_study_summaries(url):
        lane = summary.study_name.removeprefix(run_id)
        for trial in optuna.load_study(study_name=summary.study_name, storage=url).get_trials():
            record = record_of(trial, lane.strip("/") or "search", TrialRole.SEARCH)
            found[f"{lane} {trial.number}"] = record.starts
    return found


def test_nothing_lost_and_nothing_twice(study: Study) -> None:
    count = at(PACK, "nothing", times=10_000)  # once per trained epoch
    database = f"sqlite:///{study.folder('run') / 'study.db'}"
    packed, kills = 0, 0
    for fault in (
        at(BATCH, "kill-all", call=30),
        at(WRITE, "kill-all", "epoch-", call=4, after=True),
    ):
        study.faults.arm(fault, count)
        done = study.run("run", *SEARCH)
        check_last_words(done)
        packed, kills = packed + study.faults.count(1), kills + 2
        run_id = run_id_of(study.folder("run"))
        before, begun = ended(studies(database, run_id)), starts(database, run_id)
    faults = (at(BATCH, "kill", call=10), at(WRITE, "kill", "epoch-", call=3), count)
    study.faults.arm(*faults)
    done = study.run("run", *SEARCH)
    assert done.code == 0, done.out + done.err
    packed, kills = packed + study.faults.count(2), kills + 2

    lanes = studies(database, run_id)
    after = ended(lanes)
    assert {key: after[key] for key in before} == before  # no finished trial was touched
    assert {key: starts(database, run_id)[key] for key in before} == {key: begun[key] for key in before}
    tracked = mlflow_runs(f"sqlite:///{study.launcher.folder / 'mlflow.db'}", run_id)
    assert miscounts(lanes, tracked, TRIALS) == []
    assert len(before) < len(after) == 2 * TRIALS
    trained = sum(key.startswith("epoch/") for trial in after.values() for key in trial)
    assert trained <= packed <= trained + kills
