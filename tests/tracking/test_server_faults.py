"""A real `mlflow server` that is away, comes back, is restarted, slow or broken: nothing lost, nothing doubled."""

import itertools
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.servers import Proxy, free_port, mlflow_server
from tests.tracking.stores import copy_empty_store, feed, runs_of, steps, tracker_for
from tuner.tracking.tracker import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass
class Server:
    """A running MLflow server and the database behind it, which the tests read directly."""

    port: int
    uri: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    copy_empty_store(folder)
    found = Server(free_port(), f"sqlite:///{folder}/mlflow.db")
    with mlflow_server(folder, found.port, "server", "--workers", "1", "--backend-store-uri", found.uri):
        yield found


def study(tracker: Tracker, trials: int, epochs: int) -> None:
    """Report trials side by side, as a search does."""
    for key in range(trials):
        tracker.child(f"t{key}", name=f"trial {key}", params={"lr": key}, texts={"configuration.json": "{}"})
    for epoch in range(1, epochs + 1):
        for key in range(trials):
            feed(tracker, f"t{key}", epoch, epoch + 1)
    for key in range(trials):
        tracker.close_child(f"t{key}", "COMPLETE")


def check(server: Server, experiment: str, trials: int, epochs: int) -> None:
    """Every run once, every step once, every state right."""
    (parent,), children = runs_of(server.uri, experiment)
    assert parent.info.status == "FINISHED"
    assert sorted(children) == [f"t{key}" for key in range(trials)]
    for child in children.values():
        assert child.info.status == "FINISHED"
        assert child.data.params["lr"] == child.data.tags["key"][1:]
        assert steps(server.uri, child) == list(range(1, epochs + 1))


def test_slow_server_holds_nobody_up(server: Server, tmp_path: Path) -> None:
    with Proxy(server.port) as proxy:
        proxy.delay = lambda path: (0.1, 0)
        tracker = tracker_for(f"http://127.0.0.1:{proxy.port}", tmp_path / "spool", experiment="slow")
        tracker.start()
        study(tracker, 4, 50)
        assert (
            tracker._spool.unsent() > 100
        )  # nobody has waited for the server, which is still with the first
        assert tracker.close("FINISHED", 100) == 0
    check(server, "slow", 4, 50)
    assert tracker.errors == 0


@pytest.mark.parametrize("late", ["request", "answer"])
def test_runs_created_though_the_request_was_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """What times out here is done there all the same, at once or after it was asked for again."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    creations = itertools.count()

    def delay(path: str) -> tuple[float, float]:
        # the study's run and that of the first trial, each with the repetition by MLflow's client
        if not path.endswith("runs/create") or next(creations) not in (0, 1, 3, 4):
            return 0, 0
        return (2.5, 0) if late == "request" else (0, 2.5)

    with Proxy(server.port) as proxy:
        proxy.delay = delay
        tracker = tracker_for(f"http://127.0.0.1:{proxy.port}", tmp_path / "spool", experiment=f"late-{late}")
        tracker.start()
        study(tracker, 3, 6)
        assert tracker.flush(60) == 0
        time.sleep(3)
        assert tracker.close("FINISHED", 100) == 0
        assert tracker.errors >= 2
    check(server, f"late-{late}", 3, 6)
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(f"late-{late}").experiment_id
    assert len(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)) >= 2


def test_server_that_answers_500(server: Server, tmp_path: Path) -> None:
    with Proxy(server.port) as proxy:
        proxy.broken = True
        tracker = tracker_for(f"http://127.0.0.1:{proxy.port}", tmp_path / "spool", experiment="broken")
        tracker.start()
        study(tracker, 3, 10)
        assert tracker.flush(20) > 0
        assert "500" in tracker.last_error
        proxy.broken, proxy.every = False, 7
        assert tracker.close("FINISHED", 100) == 0
        assert tracker.errors > 1
    assert tracker.problems == []
    check(server, "broken", 3, 10)


def test_server_away_for_the_whole_run(server: Server, tmp_path: Path) -> None:
    """The next process with the same spool delivers, and the one after it has nothing to do."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    first = tracker_for(uri, tmp_path / "spool", experiment="absent")
    first.start()
    study(first, 3, 10)
    assert first.close("FINISHED", 1) == 3 + 30 + 3 + 2
    first._delivery._thread.join()  # in a study the process ends here
    assert first.problems == []
    with Proxy(server.port, port):
        for _ in range(2):
            again = tracker_for(uri, tmp_path / "spool", experiment="absent")
            again.start()
            assert again.close("FINISHED", 60) == 0
            check(server, "absent", 3, 10)


def test_server_comes_late_goes_and_comes_back(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    create = MlflowClient.create_run

    def twice(*arguments: Any, **options: Any) -> Any:
        """What a lost answer does: the client library sends the request again."""
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    port = free_port()
    arguments = ("server", "--workers", "1", "--backend-store-uri", uri)
    tracker = tracker_for(f"http://me:secret@127.0.0.1:{port}", tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1})
    feed(tracker, "t0", 1, 10)
    with mlflow_server(tmp_path, port, *arguments):
        assert tracker.flush(60) == 0
        feed(tracker, "t0", 10, 20)
        tracker.child("t1", name="trial 1")
        time.sleep(0.03)  # perhaps in the middle of a request
    for step in range(20, 120):
        feed(tracker, "t1", step, step + 1)
        feed(tracker, "t0", step, step + 1)
    assert tracker.flush(1.5) > 0
    assert "secret" not in tracker.last_error
    with mlflow_server(tmp_path, port, *arguments):
        (tmp_path / "report.html").write_text("<h1>report</h1>")
        tracker.artifact("", tmp_path / "report.html")
        tracker.close_child("t0", "COMPLETE")
        tracker.close_child("t1", "PRUNED")
        assert tracker.close("FINISHED", 60) == 0
        report = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={tracker.parent_id()}"
        assert urllib.request.urlopen(report, timeout=20).read() == b"<h1>report</h1>"
    assert tracker.problems == []
    assert "secret" not in (tmp_path / "spool").read_text()
    (parent,), children = runs_of(uri)
    assert parent.info.status == "FINISHED"
    assert (children["t0"].info.status, children["t1"].info.status) == ("FINISHED", "FINISHED")
    assert children["t1"].data.tags["state"] == "PRUNED"
    assert steps(uri, children["t0"]) == list(range(1, 120))
    assert steps(uri, children["t1"]) == list(range(20, 120))


def test_bare_ui_in_the_same_folder_serves_the_default_store(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = tracker_for("sqlite:///mlflow.db", tmp_path / "spool")
    tracker.start()
    (tmp_path / "report.html").write_text("<h1>report</h1>")
    tracker.artifact("", tmp_path / "report.html")
    monkeypatch.chdir("/")  # the store stays where it was
    assert tracker.close("FINISHED", 60) == 0
    port = free_port()
    with mlflow_server(tmp_path, port, "ui"):
        report = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={tracker.parent_id()}"
        assert urllib.request.urlopen(report, timeout=20).read() == b"<h1>report</h1>"
