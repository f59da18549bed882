"""The main job end to end: real Ray Tune, real Optuna storage, real MLflow store."""

import csv
import html
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import robust_tuner as rt
from tests.integration.conftest import FEW, IMAGES, ROOT, SMALL, Done, Launcher
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.open_dataset import load
from trainables.data.types.splits import Split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ARMS = ["best", "gauss", "no_attack", "oe", "signnoise"]


def small(name: str, trials: int, *more: str) -> list[str]:
    return ["--study", "aoe_sigma", "--run-name", name, "--trials", str(trials), *SMALL, *more]


@pytest.fixture(scope="module")
def finished(module_launcher: Launcher) -> tuple[Launcher, Done]:
    """One whole study; a GPU share is asked for although there is none."""
    done = module_launcher.run(
        *small("one", 3, "--confirm-seeds", "2", "--gpus-per-trial", "0.5"), timeout=500
    )
    assert done.code == 0, done.out + done.err
    return module_launcher, done


HEADLINE = (
    *("test/robust_auroc_0.1/near", "test/robust_auroc_0.1/unknown", "test/robust_auroc_0.1/far"),
    *("test/auroc/near", "test/fpr95_id_pos/far", "test/accuracy/clean"),
)


def evaluation_of(launcher: Launcher, child: Any) -> dict[str, float]:
    """Return every test metric of an evaluated trial, from its run's artifact."""
    path = client(launcher).download_artifacts(child.info.run_id, "evaluation.json")
    found: dict[str, float] = json.loads(Path(path).read_text())
    return found


def client(launcher: Launcher) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{launcher.folder}/mlflow.db")


def runs_of(launcher: Launcher, name: str) -> tuple[Any, list[Any]]:
    """Return the study's parent run and its children."""
    store = client(launcher)
    experiment = store.get_experiment_by_name("aoe_sigma").experiment_id
    parents = store.search_runs([experiment], f"tags.run = '{name}'")
    assert len(parents) == 1
    query = f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'"
    return parents[0], store.search_runs([experiment], query, max_results=1000)


def rows(launcher: Launcher, name: str, file: str = "trials.csv") -> list[dict[str, str]]:
    with open(launcher.folder / "runs" / name / file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_answer_is_printed(finished: tuple[Launcher, Done]) -> None:
    _, done = finished
    assert "no GPU here" in done.out
    assert "winner: trial" in done.out
    for words in ("robust AUROC", "clean accuracy", "oe", "signnoise", "gauss", "report.html", "mlflow ui"):
        assert words in done.out, words
    assert re.search(
        r"runs: http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?workflowType=machine_learning", done.out
    )
    for name in ("runs", "arms", "compare"):
        assert re.search(rf"  {name}: http://127\.0\.0\.1:5000/#/\S+&viewStateShareKey=", done.out), name
    assert "Traceback" not in done.out + done.err


def test_the_run_folder(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    folder = launcher.folder / "runs" / "one"
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["seed"] == 0
    assert plan["finished"] is True
    assert set(plan["read_by_search"]) == {"train", "val_id", "val_ood_near", "val_ood_far"}
    assert plan["versions"]["ray"].startswith("2.")
    assert len(plan["content_hash"]) == 16
    for name in ("study.db", "report.html", "report.md", "trials.csv", "arms.csv", "console.log"):
        assert (folder / name).stat().st_size > 0, name
    found = rows(launcher, "one")
    assert [row["number"] for row in found] == ["0", "1", "2"]
    assert {row["state"] for row in found} <= {"COMPLETE", "PRUNED"}
    for row in found:
        assert (row["epochs"] == "3") == (row["state"] == "COMPLETE")
        assert bool(row.get("test/auroc/near")) == (row["state"] == "COMPLETE")


def test_mlflow_has_one_run_per_trial(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    parent, children = runs_of(launcher, "one")
    assert parent.info.status == "FINISHED"
    tags = [child.data.tags for child in children]
    assert len({tag["trial"] for tag in tags}) == len(children)
    roles = Counter(tag["role"] for tag in tags)
    # 3 searched and 3 of the tuned baseline; confirm: 2 seeds of the winner, the baseline and 3 controls
    assert roles == {"search": 3, "baseline": 3 + 2, "confirm": 2, "control": 6}
    assert sorted(tag["trial"] for tag in tags if tag["role"] == "search") == ["0", "1", "2"]
    for child in children:
        assert child.info.status == "FINISHED"  # MLflow's KILLED would show a stopped trial as a failure
        assert child.data.tags["state"] in ("COMPLETE", "PRUNED")
        assert set(child.data.params) <= {
            "attack.name",
            "attack.epsilon",
            "attack.steps",
            "outliers.sigma",
            "outliers.weight",
            "lr",
        }
        if child.data.tags["state"] == "COMPLETE":
            assert "val/robust_auroc_0.1/near" in child.data.metrics
            tested = {name for name in child.data.metrics if name.startswith("test/")}
            assert tested == set(HEADLINE)
            evaluation = evaluation_of(launcher, child)
            assert {name: evaluation[name] for name in HEADLINE} == pytest.approx(
                {name: child.data.metrics[name] for name in HEADLINE}
            )
            assert {"test/accuracy/robust_0.15", "test/auroc/near", "test/robust_auroc_0.1/unknown"} <= set(
                evaluation
            )


def test_no_step_twice(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    store = client(launcher)
    for child in runs_of(launcher, "one")[1]:
        steps = [m.step for m in store.get_metric_history(child.info.run_id, "seconds")]
        assert steps == list(range(1, len(steps) + 1))


def test_artifacts_and_model(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    parent, children = runs_of(launcher, "one")
    store = client(launcher)
    names = {item.path for item in store.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.md", "report.json", "trials.csv", "plan.json"} <= names
    best = next(c for c in children if c.data.tags["trial"] == parent.data.tags["best_trial"])
    version = store.get_model_version_by_alias("aoe_sigma.digits-open", "champion")
    assert version.run_id == best.info.run_id
    tags = parent.data.tags
    assert tags["model"] == f"aoe_sigma.digits-open/{version.version}"
    assert tags["winner"] == best.info.run_name
    assert re.fullmatch(rf"t{tags['best_trial']} \S+ sigma \S+ eps \S+", tags["winner"])
    (output,) = store.get_run(parent.info.run_id).outputs.model_outputs
    assert version.source == f"models:/{output.model_id}"
    experiment = store.get_experiment_by_name("aoe_sigma")
    link = f"#/experiments/{experiment.experiment_id}/runs/{best.info.run_id}"
    for text in (tags["mlflow.note.content"], experiment.tags["mlflow.note.content"]):
        for words in (
            f"Winner: Trial {tags['best_trial']}",
            "Claim",
            link,
            "#/models/aoe_sigma.digits-open/",
        ):
            assert words in text, words
    assert "Winner: Trial" in version.description


def test_the_printed_lines_load_the_winner(finished: tuple[Launcher, Done]) -> None:
    """The two lines at the end stand in both reports, and give the numbers of the exported files."""
    launcher, done = finished
    lines = re.search(r"the winner as a model, in Python:\n  (.*)\n  (.*)\n", done.out)
    assert lines, done.out
    for name in ("report.md", "report.html"):
        report = html.unescape((launcher.folder / "runs" / "one" / name).read_text())
        assert lines[1] in report, name
        assert lines[2] in report, name
    assert "models:/aoe_sigma.digits-open/1" in lines[2]
    command = re.search(r"the winner as files:\n  (.*)\n", done.out)
    assert command
    words = shlex.split(command[1].replace("--format onnx", "--format pytorch --output files"))
    exported = launcher.run(*words[words.index("--export") :])
    assert exported.code == 0, exported.err
    ask = "model.predict(np.linspace(0, 1, 1280).reshape(5, 16, 16, 1))"
    shown = []
    for code in (
        f"{lines[1]}\n{lines[2]}\nprint({ask}.to_json(orient='records', double_precision=15))",
        f"from robust_predictor import Predictor; import json\nmodel = Predictor.load('files/model.pt2')\n"
        f"print(json.dumps({ask}))",
    ):
        run = subprocess.run(
            [sys.executable, "-c", f"import numpy as np\n{code}"],
            cwd=launcher.folder,
            env={**os.environ, "PYTHONPATH": str(launcher.folder / "files")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
        shown.append(json.loads(run.stdout))
    for one, other in zip(*shown, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_every_evaluated_trial_keeps_its_outlier_scores(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    store = client(launcher)
    evaluated = [c for c in runs_of(launcher, "one")[1] if "test/auroc/near" in c.data.metrics]
    assert evaluated
    for child in evaluated:
        name = f"files/{child.data.tags['key']}.npz"
        assert name in {item.path for item in store.list_artifacts(child.info.run_id, "files")}
        measured = evaluation_of(launcher, child)
        assert {"test/calibration/ece", "test/robust_auroc_both_0.1/near"} <= set(measured)


def test_the_confirmed_winner_gets_a_closer_look(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    closer = {"test/knn/auroc/near", "test/attack_check_0.1/auroc_change"}
    for child in runs_of(launcher, "one")[1]:
        if "arm" in child.data.tags:
            measured = evaluation_of(launcher, child)
            assert closer & set(measured) == (closer if child.data.tags["arm"] == "best" else set())
    plan = json.loads((launcher.folder / "runs" / "one" / "plan.json").read_text())["plan"]
    assert "knn" in plan["closer"]["detectors"]
    assert plan["protocol"]["ood_sides"] == ["ood", "id", "both"]


def test_a_trial_is_scored_alone_by_its_mlflow_run(finished: tuple[Launcher, Done]) -> None:
    """Without Ray, from another process: the numbers are those of the study's evaluate stage."""
    launcher, _ = finished
    child = next(c for c in runs_of(launcher, "one")[1] if "test/auroc/near" in c.data.metrics)
    done = launcher.run("--evaluate", child.info.run_id, "--protocol", "quick", *FEW, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["checkpoint"].startswith(f"runs/one/checkpoints/{child.data.tags['key']}/epoch-")
    shared = {
        k for k in found["metrics"] if k.startswith(("test/accuracy", "test/calibration", "test/energy/"))
    }
    assert len(shared) > 10
    evaluation = evaluation_of(launcher, child)
    for name in shared:
        assert found["metrics"][name] == pytest.approx(evaluation[name], abs=1e-9), name


def test_python_reads_the_same_trials_arms_and_answer(finished: tuple[Launcher, Done]) -> None:
    launcher, done = finished
    run = rt.load_run(launcher.folder / "runs" / "one")
    assert (run.state, run.report) == ("done", launcher.folder / "runs" / "one" / "report.html")
    for frame, file in ((run.trials(), "trials.csv"), (run.trials(arms=True), "arms.csv")):
        found = rows(launcher, "one", file)
        assert list(frame.columns) == list(found[0])
        for name in ("state", "test/auroc/near"):
            shown = [str(value).replace("nan", "") for value in frame[name]]
            assert shown == [row[name] for row in found]
    assert sorted(run.arms) == ARMS
    best = [r for r in rows(launcher, "one", "arms.csv") if r["arm"] == "best" and r["lane"] == "confirm"]
    by_seed = sorted((int(r["seed_index"]), float(r["test/auroc/near"])) for r in best)
    assert list(run.arms["best"].values["test/auroc/near"]) == [value for _, value in by_seed]
    assert run.best is not None
    assert f"winner: trial {run.best.number}\n" in done.out
    for sentence in run.answer.sentences:
        assert f"  {sentence}\n" in done.out


def test_python_has_the_classifier_that_was_scored(finished: tuple[Launcher, Done]) -> None:
    run = rt.load_run(finished[0].folder / "runs" / "one")
    assert run.best is not None
    test = load("digits-open").labelled(Split.TEST_ID)
    with torch.no_grad():
        logits = run.model()(to_unit(torch.tensor(test.images)))
    right = (logits.argmax(1).numpy() == test.labels)[:IMAGES]
    assert right.mean() == pytest.approx(run.best.tests["test/accuracy/clean"], abs=1e-9)
    assert run.model("confirm-0000")(torch.rand(2, 1, 8, 8)).shape == (2, 6)
    answers = run.predictor().predict(test.images[:20], layout="NCHW")
    assert [answer["class_index"] for answer in answers] == logits[:20].argmax(1).tolist()
    folder = run.export(finished[0].folder / "exported", trial="confirm-0000")
    assert json.loads((folder / "model.json").read_text())["source"]["trial"] == "confirm-0000"
    assert (folder / "model.pt2").is_file()


def test_confirm_arms_are_paired(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    _, children = runs_of(launcher, "one")
    seeds: dict[str, list[str]] = {}
    for child in children:
        if "arm" in child.data.tags:
            seeds.setdefault(child.data.tags["arm"], []).append(child.data.tags["seed"])
    assert sorted(seeds) == ARMS
    assert len({tuple(sorted(found)) for found in seeds.values()}) == 1


def test_resuming_a_finished_run_runs_nothing_again(finished: tuple[Launcher, Done]) -> None:
    launcher, _ = finished
    before = {c.info.run_id for c in runs_of(launcher, "one")[1]}
    log = launcher.folder / "runs" / "one" / "console.log"
    started = log.read_text().count(" started")
    done = launcher.run("--resume", "one")
    assert done.code == 0, done.out + done.err
    assert log.read_text().count(" started") == started
    assert "== resume: nothing is left to train or to measure" in done.out
    assert "== start: Ray" not in done.out, "a report needs no Ray"
    assert {c.info.run_id for c in runs_of(launcher, "one")[1]} == before


def test_plain_lines_are_few(finished: tuple[Launcher, Done]) -> None:
    _, done = finished
    assert len(done.out.splitlines()) < 90


@pytest.fixture
def report(finished: tuple[Launcher, Done]) -> Callable[[str], str]:
    folder: Path = finished[0].folder / "runs" / "one"
    return lambda name: (folder / name).read_text()


def test_the_report_holds_the_answer(report: Callable[[str], str]) -> None:
    for name in ("report.md", "report.html"):
        text = report(name)
        assert "Which outlier sigma and which attack" in text
        assert "outliers.sigma" in text
        assert f"python {ROOT}/launch.py --study aoe_sigma" in text
