"""The winner as a registered model in a real store: what loads it, who is champion, what a kill leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tracking.servers import environment, free_port, mlflow_server
from tests.tracking.stores import runs_of, tracker_for
from tests.unit.trainables.inference.networks import INFO, network, validation
from trainables.inference.model_file import facts_of, model_bytes, predictor, registrable
from trainables.inference.registrable import Registrable
from tuner.tracking.champion import Standing
from tuner.tracking.model_registry import log_winner
from tuner.tracking.moved_store import follow_move
from tuner.tracking.notes import signed

pytestmark = pytest.mark.timeout(240)

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
NAME = "aoe.shapes"


def program(bias: float = 0.0) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a model.pt2 and its facts; another bias is another model."""
    net = network()
    with torch.no_grad():
        net.head.bias[0] += bias
    facts = facts_of(net, INFO, "msp", validation(), {"run": "aoe-1", "trial": "0007"})
    return model_bytes(net, facts), facts


@cache
def model(bias: float = 0.0) -> Registrable:
    """Return what a registry keeps of it."""
    return registrable(*program(bias))


def standing(
    mean: float = float("nan"), half: float = 0.01, data: str = "d", protocol: str = "p"
) -> Standing:
    return Standing("test/auroc/near", mean, half, 5, data, protocol)


def parent_of(uri: str, tmp_path: Path) -> Any:
    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    assert tracker.flush(60) == 0
    return tracker


@pytest.mark.slow
def test_winner_loads_back_in_both_flavours_without_this_program(uri: str, tmp_path: Path) -> None:
    """Where tuner and trainables cannot be imported, and where MLflow is told to read no pickle for python_function."""
    import mlflow

    tracker = parent_of(uri, tmp_path)
    run_id = tracker.parent_id() or ""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    for _ in range(2):
        made = log_winner(uri, run_id, model(), NAME, standing(0.9), {"trial": "7"})
        assert (made.version, made.note) == ("1", "")
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    client = mlflow.MlflowClient(uri)
    assert client.get_run(run_id).info.status == "RUNNING"
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    champion = client.get_model_version_by_alias(NAME, "champion")
    assert champion.run_id == run_id
    assert champion.tags["trial"] == "7"
    assert champion.tags["confirmed_mean"] == "0.9"
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, uri, f"models:/{NAME}@champion"],
        env={k: v for k, v in environment().items() if k != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        input=json.dumps(PICTURES.tolist()),
    )
    assert done.returncode == 0, done.stderr
    expected = predictor(program()[0]).predict(PICTURES)
    for rows in json.loads(done.stdout):
        for row, own in zip(rows, expected, strict=True):
            assert row == pytest.approx(own, abs=1e-6)
    assert tracker.close("FINISHED") == 0


ALONE = """
import json, os, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tuner", "trainables", "search_spaces", "launch", "ray", "optuna"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import mlflow, numpy as np, torch

mlflow.set_tracking_uri(sys.argv[1])
pictures = np.array(json.load(sys.stdin), np.uint8)
module = mlflow.pytorch.load_model(sys.argv[2])
assert isinstance(module.eval(), torch.nn.Module)
assert module(torch.tensor(pictures))["logits"].shape == (3, 4)
assert torch.isfinite(module(torch.tensor(pictures / 255))["logits"]).all()  # float64
rows = [module.predict(pictures)]
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
function = mlflow.pyfunc.load_model(sys.argv[2])
for images in (pictures, pictures.astype(np.int64), pictures.transpose(0, 3, 1, 2)):
    rows.append(json.loads(function.predict(images).to_json(orient="records", double_precision=15)))
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_a_model_is_served_over_http(uri: str, tmp_path: Path) -> None:
    import mlflow

    tracker = parent_of(uri, tmp_path)
    assert log_winner(uri, tracker.parent_id() or "", model(), NAME, standing()).version == "1"
    assert tracker.close("FINISHED") == 0
    mlflow.set_tracking_uri(uri)
    try:
        folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/1", dst_path=str(tmp_path / "model"))
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    port = free_port()
    command = ("models", "serve", "--model-uri", folder, "--env-manager", "local", "--host", "127.0.0.1")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # uvicorn is one
    alone = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1", "PATH": programs}
    with mlflow_server(tmp_path, port, *command, variables=alone):
        for images in (PICTURES, PICTURES / 255):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                json.dumps({"inputs": images.tolist()}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                found = json.load(response)["predictions"]
            expected = predictor(program()[0]).predict(images)
            for row, own in zip(found, expected, strict=True):
                assert row == pytest.approx(own, abs=1e-6)


def test_the_version_has_the_answer_and_the_studys_run_shows_the_model(uri: str, tmp_path: Path) -> None:
    import mlflow

    tracker = parent_of(uri, tmp_path)
    tracker.child("0007", name="t7 pgd")
    assert tracker.flush(60) == 0
    parent, child = tracker.parent_id() or "", tracker.child_id("0007") or ""
    client = mlflow.MlflowClient(uri)
    for note in (signed("first"), signed("second")):
        made = log_winner(uri, child, model(), NAME, standing(), parent_id=parent, note=note)
        assert (made.version, made.note) == ("1", "")
        version = client.get_model_version(NAME, "1")
        assert version.description == note
        (output,) = client.get_run(parent).outputs.model_outputs
        assert version.source == f"models:/{output.model_id}"
        assert version.run_id == child
    made = log_winner(uri, child, model(), NAME, standing(), parent_id="no such run")
    assert made.version == "1"
    assert "version 1 is registered, but not described: " in made.note
    client.update_model_version(NAME, "1", "my own words")
    log_winner(uri, child, model(), NAME, standing(), parent_id=parent, note=signed("third"))
    assert client.get_model_version(NAME, "1").description == "my own words"
    assert client.get_run(parent).info.status == "RUNNING"
    assert tracker.close("FINISHED") == 0


@pytest.mark.parametrize("copied", [False, True])
def test_artifacts_and_model_are_found_after_the_store_was_moved(tmp_path: Path, copied: bool) -> None:
    import mlflow

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    tracker = parent_of(f"sqlite:///{old}/mlflow.db", old)
    run_id = tracker.parent_id() or ""
    tracker.text("", "the plan", "plan.json")
    assert log_winner(f"sqlite:///{old}/mlflow.db", run_id, model(), NAME, standing()).version == "1"
    assert tracker.close("FINISHED") == 0
    if copied:
        shutil.copytree(old, new)
    else:
        old.rename(new)
    moved = f"sqlite:///{new}/mlflow.db"
    assert "MLflow's store was moved" in follow_move(moved)
    if copied:
        shutil.rmtree(old)
    client = mlflow.MlflowClient(moved)
    assert Path(client.download_artifacts(run_id, "plan.json")).read_text() == "the plan"
    later = client.create_run(client.get_experiment_by_name("aoe").experiment_id).info.run_id
    client.log_text(later, "more", "more.txt")
    assert (new / "mlruns" / later / "artifacts" / "more.txt").read_text() == "more"
    mlflow.set_tracking_uri(moved)
    try:
        folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/1", dst_path=str(tmp_path / "m"))
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert (Path(folder) / "MLmodel").is_file()
    assert not old.exists()


def test_who_is_champion(uri: str, tmp_path: Path) -> None:
    """The first; then an interval over none, and a clearly better one on the same data; or on request."""
    import mlflow

    tracker = parent_of(uri, tmp_path)
    run_id = tracker.parent_id() or ""
    client = mlflow.MlflowClient(uri)

    def log(bias: float, result: Standing, move: bool = False) -> tuple[str, str]:
        made = log_winner(uri, run_id, model(bias), NAME, result, {"trial": "8"}, move=move)
        holder = client.get_model_version_by_alias(NAME, "champion").version
        return str(holder), made.note

    assert log(0, standing()) == ("1", "")
    assert log(1, standing()) == (
        "1",
        "model aoe.shapes: champion stays version 1, this is version 2: this result has no confidence interval "
        "(confirm it with two seeds or more); --champion moves it",
    )
    assert log(1, standing(0.80)) == ("2", "")  # the same model, confirmed since
    holder, note = log(2, standing(0.81))
    assert holder == "2"
    assert note.endswith(
        ": AUROC, near OOD 81.0 ± 1.0 % is not clearly better than its 80.0 ± 1.0 %; --champion moves it"
    )
    assert log(2, standing(0.83, data="e"))[1].endswith(
        ": it was measured on other data; --champion moves it"
    )
    assert log(2, standing(0.83)) == ("3", "")
    assert log(1, standing(0.80), move=True) == ("2", "")
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 3
    tracker.close("KILLED")


def test_models_under_their_old_names_stay(uri: str, tmp_path: Path) -> None:
    """What earlier versions registered under the study's name is read as before, and its champion is left alone."""
    import mlflow

    tracker = parent_of(uri, tmp_path)
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("aoe")
    client.create_model_version("aoe", str(tmp_path), run_id=tracker.parent_id())
    client.set_registered_model_alias("aoe", "champion", "1")
    assert log_winner(uri, tracker.parent_id() or "", model(), NAME, standing()).version == "1"
    assert client.get_model_version_by_alias("aoe", "champion").version in (1, "1")
    assert len(client.search_model_versions("name = 'aoe'")) == 1
    tracker.close("FINISHED")


def test_a_store_that_refuses_is_one_line_without_passwords(uri: str, tmp_path: Path) -> None:
    made = log_winner("http://me:secret@127.0.0.1:9", "0" * 32, model(), NAME, standing())
    assert made.version == ""
    assert made.note.startswith(f"model {NAME} not logged: ")
    assert "secret" not in made.note
    assert "\n" not in made.note


def test_the_run_keeps_its_end(uri: str, tmp_path: Path) -> None:
    import mlflow

    tracker = parent_of(uri, tmp_path)
    run_id = tracker.parent_id() or ""
    client = mlflow.MlflowClient(uri)
    client.set_terminated(run_id, "KILLED", 12_345)
    assert log_winner(uri, run_id, model(), NAME, standing()).version == "1"
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == ("KILLED", 12_345)
    tracker.close("KILLED")


KILLED = """
import os, signal, sys
import mlflow
from pathlib import Path
from tests.tracking.test_model_registry import NAME, standing
from trainables.inference.registrable import Registrable
from tuner.tracking.model_registry import log_winner
from tuner.tracking.moved_store import follow_move
from tuner.tracking.notes import signed

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(mlflow.MlflowClient, sys.argv[3], die)
model = Registrable(Path(sys.argv[4]).read_bytes(), sys.argv[5], "2.14.1", {"classes": ["a"]})
print(log_winner(sys.argv[1], sys.argv[2], model, NAME, standing(), {"trial": "0"}))
"""


@pytest.mark.slow
def test_killed_while_the_winner_is_logged_and_while_it_is_registered(uri: str, tmp_path: Path) -> None:
    """The trial's run keeps the status of its end; the next launches finish the one model and the one version."""
    import mlflow

    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    tracker.child("0000", name="0000", params={"lr": 0.1})
    tracker.close_child("0000", "COMPLETE")
    assert tracker.close("KILLED", 60) == 0
    run_id = tracker.child_id("0000") or ""
    client = mlflow.MlflowClient(uri)
    before = client.get_run(run_id).info
    (tmp_path / "model.pth").write_bytes(model().pickled)
    for where in ("log_model_artifacts", "_create_model_version"):
        died = subprocess.run(
            [sys.executable, "-c", KILLED, uri, run_id, where, str(tmp_path / "model.pth"), model().digest],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
        info = client.get_run(run_id).info
        assert (info.status, info.end_time) == ("FINISHED", before.end_time)
    assert log_winner(uri, run_id, model(), NAME, standing(), {"trial": "0"}).note == ""
    (logged,) = client.search_logged_models([before.experiment_id])
    assert (str(logged.status), logged.source_run_id) == ("READY", run_id)
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert (version.run_id, version.source) == (run_id, f"models:/{logged.model_id}")
    assert client.get_model_version_by_alias(NAME, "champion").version == version.version
    _, children = runs_of(uri)
    assert children["0000"].info.status == "FINISHED"
