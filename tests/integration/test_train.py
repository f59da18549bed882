"""`--train`: one configuration, killed and resumed; everything a study has but a search, arms and a claim."""

import json

import pytest

from tests.integration.conftest import SMALL, Launcher
from tests.integration.test_main_job import client, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_one_training_is_resumed_after_a_kill(launcher: Launcher) -> None:
    values = ("outliers.sigma=1", "outliers.weight=0.5", "attack.name=pgd", "attack.epsilon=0.1")
    words = [word for value in (*values, "attack.steps=3", "lr=0.003") for word in ("--set", value)]
    process = launcher.start("--train", "--study", "aoe_sigma", "--run-name", "alone", *SMALL, *words)
    launcher.wait_for("alone", " epoch ", 1, process)
    launcher.kill(process)
    done = launcher.run("--study", "aoe_sigma", "--resume")
    assert done.code == 0, done.out + done.err
    assert "== One training of aoe on digits-open" in done.out
    for word in ("winner", "claim", "search"):
        assert word not in done.out.partition("== One training")[2].partition("report: ")[0]

    folder = launcher.folder / "runs" / "alone"
    (row,) = rows(launcher, "alone")
    assert (row["state"], row["epochs"], row["feasible"]) == ("COMPLETE", "3", "true")
    assert float(row["test/robust_auroc_0.1/near"]) > 0
    assert rows(launcher, "alone", "arms.csv") == []
    assert [path.name for path in (folder / "checkpoints" / "0000").iterdir()] == ["epoch-0003.pt"]
    assert json.loads((folder / "plan.json").read_text())["finished"]
    assert "One training with one seed, so there is no interval." in (folder / "report.md").read_text()

    store = client(launcher)
    (experiment,) = [e for e in store.search_experiments() if e.name == "aoe_sigma"]
    runs = store.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("run") == "alone" and "trial" not in run.data.tags]
    (trial,) = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert (parent.info.status, trial.info.status) == ("FINISHED", "FINISHED")
    steps = store.get_metric_history(trial.info.run_id, "val/accuracy/clean")
    assert [metric.step for metric in steps] == [1, 2, 3]
