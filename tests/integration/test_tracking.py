"""Tracking against real MLflow stores: an SQLite file, and a server that goes away and comes back."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.errors import InputError
from tuner.tracking import Tracker, check_uri, log_winner, redact, ui_command, ui_links

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
STEPS = 4


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised database to copy: making its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def _tracker(uri: str, spool: Path, run: str = "aoe-1") -> Tracker:
    return Tracker(uri, "aoe", run, spool, {"study": "aoe"}, interval_s=0.05)


def _runs(uri: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the study's runs and the children by key; fails on a doubled child."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("aoe")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    parents = [run for run in runs if "run" in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == len(parents) + len(children)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {run.info.run_id for run in parents}
    by_key = {run.data.tags["key"]: run for run in children}
    assert len(by_key) == len(children)
    return parents, by_key


def _history(uri: str, run: Any, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [
        (point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)
    ]


def _feed(tracker: Tracker, key: str, begin: int, end: int) -> None:
    for step in range(begin, end):
        tracker.metrics(key, step, {"val/accuracy": step / 10, "loss": 1 / step})


def test_states_tags_params_and_artifacts(uri: str, tmp_path: Path) -> None:
    tracker = _tracker(uri, tmp_path / "spool")
    tracker.start()
    for number, state in enumerate(["COMPLETE", "PRUNED", "FAIL"]):
        key = f"t{number}"
        tracker.child(
            key, name=f"trial {number}", params={"lr": 0.5, "long": "x" * 7000}, tags={"trial": str(number)}
        )
        _feed(tracker, key, 1, 1 + STEPS)
        tracker.final(key, {"test/accuracy": 0.25})
        tracker.text(key, '{"lr": 0.5}', "configuration.json")
        tracker.close_child(key, state, "NaN from http://me:secret@host/" if state == "FAIL" else "")
    assert tracker.flush(60) == 0
    assert tracker.close("FINISHED") == 0
    assert tracker.problems == []
    assert tracker.errors == 0

    (parent,), children = _runs(uri)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_id == tracker.parent_id()
    assert parent.data.tags["run"] == "aoe-1"
    assert parent.data.tags["study"] == "aoe"
    assert [children[f"t{k}"].info.status for k in range(3)] == ["FINISHED", "KILLED", "FAILED"]
    failed = children["t2"]
    assert failed.info.run_id == tracker.child_id("t2")
    assert failed.info.run_name == "trial 2"
    assert failed.data.tags["state"] == "FAIL"
    assert failed.data.tags["reason"] == "NaN from http://host/"
    assert failed.data.params["lr"] == "0.5"
    assert len(failed.data.params["long"]) == 6000
    assert failed.data.params["long"].endswith("[cut, 7000 characters]")
    assert _history(uri, failed, "val/accuracy") == [(step, step / 10) for step in range(1, 1 + STEPS)]
    assert _history(uri, failed, "test/accuracy") == [(STEPS, 0.25)]
    # The artifacts lie beside the database, whatever the working folder is.
    assert (
        tmp_path / "mlruns" / failed.info.run_id / "artifacts" / "configuration.json"
    ).read_text() == '{"lr": 0.5}'


def test_resume_continues_the_same_runs_even_without_spool(uri: str, tmp_path: Path) -> None:
    first = _tracker(uri, tmp_path / "spool")
    first.start()
    first.child("t0", name="trial 0", params={"lr": 0.1})
    _feed(first, "t0", 1, 4)
    first.final("t0", {"test/accuracy": 0.5})
    first.close_child("t0", "FAIL", "preempted")
    assert first.close("KILLED") == 0
    assert _runs(uri)[0][0].info.status == "KILLED"

    (tmp_path / "spool").unlink()
    second = _tracker(uri, tmp_path / "spool")
    second.start()
    second.child("t0", name="trial 0", params={"lr": 0.1})
    assert second.flush(60) == 0
    (parent,), children = _runs(uri)
    assert parent.info.status == "RUNNING"
    assert children["t0"].info.status == "FAILED"  # declared again is not yet continued

    _feed(second, "t0", 2, 6)  # rolled back: steps 2 and 3 come again
    second.final("t0", {"test/accuracy": 0.75})
    assert second.flush(60) == 0
    assert _runs(uri)[1]["t0"].info.status == "RUNNING"
    second.close_child("t0", "COMPLETE")
    assert second.close("FINISHED") == 0
    assert (second.parent_id(), second.child_id("t0")) == (first.parent_id(), first.child_id("t0"))

    (tmp_path / "spool.ack").unlink()  # as if killed between the last request and its mark
    third = _tracker(uri, tmp_path / "spool")
    third.start()
    assert third.close("FINISHED") == 0
    (parent,), children = _runs(uri)
    assert children["t0"].info.status == "FINISHED"
    assert _history(uri, children["t0"], "val/accuracy") == [(step, step / 10) for step in range(1, 6)]
    assert _history(uri, children["t0"], "test/accuracy") == [(3, 0.5)]


def test_what_mlflow_refuses_does_not_hold_up_the_rest(uri: str, tmp_path: Path) -> None:
    tracker = _tracker(uri, tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1, "bad,name": 1})
    tracker.child("t0", name="trial 0", params={"lr": 0.2, "wd": 0.3})
    for step in range(1, 4):
        tracker.metrics("t0", step, {"a,b": 1.0, "ok": 1.0, "huge": float("inf"), "nan": float("nan")})
    tracker.metrics("t0", 4, {"words": "many"})  # type: ignore[dict-item]
    tracker.artifact("t0", tmp_path / "absent.png")
    tracker.text("t0", "x", "../../escape")
    tracker.close_child("t0", "done")
    tracker.close_child("t0", "COMPLETE")
    assert tracker.close("FINISHED") == 0
    (_,), children = _runs(uri)
    child = children["t0"]
    assert child.info.status == "FINISHED"
    assert child.data.params == {"lr": "0.1", "wd": "0.3"}
    assert [step for step, _ in _history(uri, child, "ok")] == [1, 2, 3]
    assert [str(value) for _, value in _history(uri, child, "nan")] == ["nan"] * 3
    assert "huge" not in child.data.metrics
    for word in ("bad,name", "lr", "a,b", "huge is inf", "many", "absent.png", "escape", "'done'"):
        assert any(word in line for line in tracker.problems), word
    assert all("\n" not in line for line in tracker.problems)


def test_run_deleted_by_hand_starts_again_and_lost_store_is_rebuilt(
    uri: str, tmp_path: Path, empty_store: Path
) -> None:
    from mlflow import MlflowClient

    tracker = _tracker(uri, tmp_path / "spool")
    tracker.start()
    _feed(tracker, "t0", 1, 3)
    assert tracker.flush(60) == 0
    MlflowClient(uri).delete_run(tracker.child_id("t0") or "")
    _feed(tracker, "t0", 3, 5)
    assert tracker.flush(60) == 0
    assert tracker.close("KILLED") == 0
    assert _history(uri, _runs(uri)[1]["t0"], "loss") == [(3, 1 / 3), (4, 1 / 4)]

    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(empty_store, other / "mlflow.db")
    moved = _tracker(f"sqlite:///{other}/mlflow.db", tmp_path / "spool")
    moved.start()
    assert moved.close("FINISHED") == 0
    history = _history(f"sqlite:///{other}/mlflow.db", _runs(f"sqlite:///{other}/mlflow.db")[1]["t0"], "loss")
    assert [step for step, _ in history] == [1, 2, 3, 4]


WRITER = """
import sys
import time
from pathlib import Path
from tuner.tracking import Tracker

uri, spool, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
tracker = Tracker(uri, "aoe", "aoe-1", spool, {}, interval_s=0.01)
tracker.start()
for step in range(1, steps + 1):
    time.sleep(0.02)
    for key in range(6):
        if step == 1:
            tracker.child(f"t{key}", name=f"trial {key}", params={"lr": key})
        tracker.metrics(f"t{key}", step, {f"m{i}": float(step) for i in range(10)})
for key in range(6):
    tracker.close_child(f"t{key}", "COMPLETE")
raise SystemExit(tracker.close("FINISHED", 100))
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@pytest.mark.slow
def test_killed_writers_double_nothing(uri: str, tmp_path: Path) -> None:
    """Every attempt writes the same steps again, as a trial without a checkpoint would."""
    command = [sys.executable, "-c", WRITER, uri, str(tmp_path / "spool"), "30"]
    mark = tmp_path / "spool.ack"
    interrupted = 0
    for delay_s in (0, 0.01, 0.03, 0.07, 0.15, 0.31):  # after the first delivery of each attempt
        before = mark.stat().st_mtime_ns if mark.exists() else 0
        writer = subprocess.Popen(command, env=_environment())
        while writer.poll() is None and not (mark.exists() and mark.stat().st_mtime_ns > before):
            time.sleep(0.002)
        time.sleep(delay_s)
        writer.kill()
        interrupted += writer.wait() != 0
    assert interrupted >= 4
    assert subprocess.run(command, env=_environment(), timeout=120, check=False).returncode == 0
    (parent,), children = _runs(uri)
    assert parent.info.status == "FINISHED"
    assert sorted(children) == [f"t{key}" for key in range(6)]
    for run in children.values():
        assert run.info.status == "FINISHED"
        for name in ("m0", "m9"):
            assert _history(uri, run, name) == [(step, float(step)) for step in range(1, 31)]


@contextmanager
def _server(folder: Path, port: int, *arguments: str) -> Iterator[None]:
    """Run `mlflow server` and end it, with the workers it started, by its process group."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        *(arguments or ("server", "--workers", "1")),
        "--port",
        str(port),
    ]
    with open(folder / "server.log", "ab") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_server_goes_away_and_comes_back(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    create = MlflowClient.create_run

    def twice(*arguments: Any, **options: Any) -> Any:
        """What a lost answer does: the client library sends the request again."""
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    port = _free_port()
    arguments = ("server", "--workers", "1", "--backend-store-uri", uri)
    tracker = _tracker(f"http://me:secret@127.0.0.1:{port}", tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1})
    _feed(tracker, "t0", 1, 10)
    with _server(tmp_path, port, *arguments):
        assert tracker.flush(60) == 0
        _feed(tracker, "t0", 10, 20)
        tracker.child("t1", name="trial 1")
        time.sleep(0.03)  # perhaps in the middle of a request
    begin = time.perf_counter()
    for step in range(20, 120):
        _feed(tracker, "t1", step, step + 1)
        _feed(tracker, "t0", step, step + 1)
    assert time.perf_counter() - begin < 1
    assert tracker.flush(1.5) > 0
    assert "secret" not in tracker.last_error
    with _server(tmp_path, port, *arguments):
        (tmp_path / "report.html").write_text("<h1>report</h1>")
        tracker.artifact("", tmp_path / "report.html")
        tracker.close_child("t0", "COMPLETE")
        tracker.close_child("t1", "PRUNED")
        assert tracker.close("FINISHED", 60) == 0
        report = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={tracker.parent_id()}"
        assert urllib.request.urlopen(report, timeout=20).read() == b"<h1>report</h1>"
    assert tracker.problems == []
    assert "secret" not in (tmp_path / "spool").read_text()
    (parent,), children = _runs(uri)
    assert parent.info.status == "FINISHED"
    assert (children["t0"].info.status, children["t1"].info.status) == ("FINISHED", "KILLED")
    assert [step for step, _ in _history(uri, children["t0"], "loss")] == list(range(1, 120))
    assert [step for step, _ in _history(uri, children["t1"], "loss")] == list(range(20, 120))


@pytest.mark.slow
def test_bare_ui_in_the_same_folder_serves_the_default_store(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = _tracker("sqlite:///mlflow.db", tmp_path / "spool")
    tracker.start()
    (tmp_path / "report.html").write_text("<h1>report</h1>")
    tracker.artifact("", tmp_path / "report.html")
    monkeypatch.chdir("/")  # the store stays where it was
    assert tracker.close("FINISHED", 60) == 0
    port = _free_port()
    with _server(tmp_path, port, "ui"):
        report = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={tracker.parent_id()}"
        assert urllib.request.urlopen(report, timeout=20).read() == b"<h1>report</h1>"


def test_winner_loads_back_with_the_same_logits(uri: str, tmp_path: Path) -> None:
    import mlflow

    tracker = _tracker(uri, tmp_path / "spool")
    tracker.start()
    assert tracker.flush(60) == 0
    parent = tracker.parent_id() or ""
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(144, 10)).train()
    example = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    for _ in range(2):
        assert log_winner(uri, parent, network, example, "aoe") is None
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    assert network.training
    client = mlflow.MlflowClient(uri)
    assert client.get_run(parent).info.status == "RUNNING"
    assert len(client.search_model_versions("name = 'aoe'")) == 1
    champion = client.get_model_version_by_alias("aoe", "champion")
    assert champion.run_id == parent
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pytorch.load_model("models:/aoe@champion")
        signature = mlflow.models.get_model_info("models:/aoe@champion").signature
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert signature is not None
    network.eval()
    for n in (1, 7):
        inputs = torch.rand(n, 1, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), network(inputs))
    problem = log_winner(uri, parent, network, example[:1], "aoe")
    assert problem is not None
    assert "two inputs" in problem
    problem = log_winner("http://me:secret@127.0.0.1:9", parent, network, example, "aoe")
    assert problem is not None
    assert "secret" not in problem
    assert tracker.close("FINISHED") == 0


def test_import_is_light() -> None:
    probe = "import sys, tuner.tracking; print({'mlflow', 'torch', 'ray', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", probe], env=_environment(), capture_output=True, check=True)
    assert shown.stdout.strip() == b"set()"


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "sqlite:///mlflow.db",
            "sqlite:////tmp/x.db",
            "http://h:5000",
            "https://u:p@h/mlflow",
            "databricks",
        ),
        *(
            "postgresql://u:p@h/db",
            "postgresql+psycopg2://h/db",
            "mysql+pymysql://h/db",
            "databricks://profile",
        ),
    ],
)
def test_usable_uris(uri: str) -> None:
    check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "sqlite:///"),
        ("runs/mlruns", "write sqlite:///runs/mlruns/mlflow.db"),
        ("file:///data/mlruns", "write sqlite:////data/mlruns/mlflow.db"),
        ("sqlite://", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
        ("sqlite:////tmp", "names a folder"),
        ("http://", "names no host"),
        ("http://u:secret@h:port", "[Pp]ort"),
        ("redis://u:secret@h", "unknown scheme 'redis'"),
        ("127.0.0.1:5000", "unknown scheme|sqlite:///"),
    ],
)
def test_unusable_uris(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_uri(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_redact() -> None:
    assert redact("at postgresql://me:p@ss@host/db and http://t@h") == "at postgresql://host/db and http://h"
    assert redact("http://h/?token=abc&x=1 password=xyz") == "http://h/?token=***&x=1 password=***"
    assert redact("sqlite:///mlflow.db?a=b@c") == "sqlite:///mlflow.db?a=b@c"


def test_ui_command_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_URI", "MLFLOW_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert ui_command("sqlite:///mlflow.db") == "mlflow ui"
    assert ui_command(f"sqlite:///{tmp_path}/mlflow.db") == "mlflow ui"
    explicit = f"mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///{tmp_path}/x/mlflow.db"
    assert ui_command("sqlite:///x/mlflow.db") == explicit
    assert "secret" not in ui_command("postgresql://me:secret@h/db")
    assert ui_command("http://h:5000") == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert "--backend-store-uri" in ui_command("sqlite:///mlflow.db")

    links = ui_links("sqlite:///mlflow.db", "7", ["a1", "b2"], "p0")
    base = "http://127.0.0.1:5000/#"
    assert links == {
        "runs": f"{base}/experiments/7/runs?workflowType=machine_learning",
        "compare": f"{base}/compare-runs?runs=%5B%22a1%22%2C%22b2%22%5D&experiments=%5B%227%22%5D",
        "report": f"{base}/experiments/7/runs/p0/artifacts/report.html",
    }
    assert ui_links("https://u:p@h/ml/", "7", [], "p0")["runs"].startswith("https://h/ml/#/experiments/7/")
    assert "compare" not in ui_links("https://h", "7", ["a1"], "p0")
