"""MLflow's server with its basic-auth app: credentials come from MLflow's variables and go nowhere else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.servers import basic_auth_server, free_port
from tests.tracking.stores import feed, runs_of, steps, tracker_for
from tuner.base.errors import UsageError
from tuner.tracking.connection import check_access

pytest.importorskip("flask_wtf", reason="mlflow[auth] (Flask-WTF) is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PASSWORD = "a-password-of-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("auth")
    port = free_port()
    with basic_auth_server(folder, port, PASSWORD):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.usefixtures("credentials")
def test_credentials_from_the_environment(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert check_access(server, "aoe") == ""
    tracker = tracker_for(server, tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1}, texts={"configuration.json": "{}"})
    feed(tracker, "t0", 1, 10)
    tracker.close_child("t0", "COMPLETE")
    assert tracker.close("FINISHED", 60) == 0
    assert tracker.problems == []
    (parent,), children = runs_of(server)
    assert steps(server, children["t0"]) == list(range(1, 10))
    everything = (tmp_path / "spool").read_text() + caplog.text + str(parent.data) + str(children["t0"].data)
    assert PASSWORD not in everything


@pytest.mark.usefixtures("credentials")
def test_wrong_or_no_password_is_said_before_anything_starts(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    with pytest.raises(
        UsageError, match=r"refuses these credentials \(401\); set MLFLOW_TRACKING_USERNAME"
    ) as caught:
        check_access(server, "aoe")
    assert "not-the-password" not in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(UsageError, match="401"):
        check_access(server, "aoe")


def test_password_that_stops_working_loses_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "expired")
    tracker = tracker_for(server, tmp_path / "spool", run="aoe-2", experiment="expired")
    tracker.start()
    feed(tracker, "t0", 1, 10)
    assert tracker.flush(30) > 0
    assert "expired" not in tracker.last_error
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert tracker.close("FINISHED", 60) == 0
    assert steps(server, runs_of(server, "expired")[1]["t0"]) == list(range(1, 10))
