"""MLflow and whole studies: files that trials leave, a server that is away for a run and then wants a password."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import SMALL, Launcher
from tests.tracking.servers import basic_auth_server, free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PASSWORD = "a-password-of-length"


def runs_of(store: Any, study: str) -> tuple[Any, list[Any]]:
    """Return the one parent and the children."""
    found = store.search_runs([store.get_experiment_by_name(study).experiment_id], max_results=1000)
    (parent,) = (run for run in found if "run" in run.data.tags)
    return parent, [run for run in found if run is not parent]


def test_sample_grids_of_a_killed_robgan_study(launcher: Launcher) -> None:
    """Each PNG that a trial leaves is an artifact of its run under `files/`, once, also if a kill fell in between."""
    import mlflow

    arguments = ["--study", "robgan", "--run-name", "r", "--trials", "1", "--max-epochs", "3"]
    arguments += ["--stages", "search", "--set", "pretrain.epochs=3"]
    process = launcher.start(*arguments)
    grid = launcher.folder / "runs" / "r" / "files" / "0000" / "samples-0001.png"
    while not grid.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    launcher.kill(process)
    done = launcher.run("--resume", "r", "--stages", "search", timeout=600)
    assert done.code == 0, done.out + done.err
    store = mlflow.MlflowClient(f"sqlite:///{launcher.folder}/mlflow.db")
    _, children = runs_of(store, "robgan")
    by_key = {child.data.tags["key"]: child.info.run_id for child in children}
    assert len(children) == len(by_key) == 3
    for key, run in by_key.items():
        stored = sorted(item.path for item in store.list_artifacts(run, "files"))
        expected = (
            ["samples-0001.png", "samples-0002.png"] if key == "0000" else []
        )  # epoch 3 trains no generator
        assert stored == [f"files/{name}" for name in expected]
        for path in (launcher.folder / "runs" / "r" / "files" / key).glob("*"):  # pgd_at leaves none
            stored_here = Path(store.download_artifacts(run, f"files/{path.name}"))
            assert stored_here.read_bytes() == path.read_bytes()


def test_server_away_then_wanting_a_password(launcher: Launcher) -> None:
    """The study ends well without its server; a wrong password is refused at once; the right one delivers it all."""
    pytest.importorskip("flask_wtf", reason="mlflow[auth] (Flask-WTF) is not installed")
    import mlflow

    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    stages = ["--stages", "search,report"]
    small = [
        "--study",
        "aoe_sigma",
        "--run-name",
        "r",
        "--trials",
        "1",
        *SMALL,
        *stages,
        "--tracking-uri",
        uri,
    ]
    done = launcher.run(*small, timeout=600)
    assert done.code == 0, done.out + done.err
    (told,) = (line for line in done.out.splitlines() if "events are kept in" in line)
    assert "--resume r" in told
    assert "Traceback" not in done.out + done.err
    run = launcher.folder / "runs" / "r"
    spool = (run / "mlflow.spool").read_bytes()
    assert json.loads((run / "plan.json").read_text())["finished"] is True

    server = launcher.folder / "server"
    server.mkdir()
    with basic_auth_server(server, port, PASSWORD, "m.db"):
        user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "wrong-password"}
        stranger = replace(launcher, environment=launcher.environment | user)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        refused = stranger.run("--resume", "r", "--tracking-uri", uri, *stages)
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
        assert "refuses these credentials" in refused.err
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        user["MLFLOW_TRACKING_PASSWORD"] = PASSWORD
        known = replace(launcher, environment=launcher.environment | user)
        delivered = known.run("--resume", "r", "--tracking-uri", uri, *stages, timeout=600)
        assert delivered.code == 0, delivered.out + delivered.err
        assert "MLflow does not answer" not in delivered.out
    assert (run / "mlflow.spool").read_bytes().startswith(spool)
    store = mlflow.MlflowClient(f"sqlite:///{server}/m.db")
    parent, children = runs_of(store, "aoe_sigma")
    assert parent.info.status == "FINISHED"
    assert len(children) == 2  # the trial and that of the tuned baseline
    for child in children:
        points = store.get_metric_history(child.info.run_id, "seconds")
        assert [point.step for point in points] == list(range(1, 1 + len(points)))
        assert child.data.tags["state"] in ("COMPLETE", "PRUNED")
    champion = store.get_model_version_by_alias("aoe_sigma.digits-open", "champion")
    assert champion.tags["trial"] == parent.data.tags["best_trial"]
    shutil.rmtree(server)  # which knows the password
    for path in launcher.folder.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
    for launch in (done, refused, delivered):
        assert PASSWORD not in launch.out + launch.err
