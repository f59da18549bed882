"""Joining a cluster that is not there, or that another user has named: one line, and no token sent."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.base.errors import StudyHalted, UsageError
from tuner.execution.ray_start import start_ray

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "TUNER_ADDRESS"])
def test_a_cluster_that_is_not_there_is_named_with_its_option(
    variable: str, closed_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, f"127.0.0.1:{closed_port}")
    option = "RAY_ADDRESS" if variable == "RAY_ADDRESS" else "--address"
    with pytest.raises(UsageError, match=f"^no Ray cluster at {option} 127.0.0.1:{closed_port}: .*refused"):
        start_ray(f"127.0.0.1:{closed_port}")


def test_a_wrong_address_is_refused_before_ray_is_imported(closed_port: int) -> None:
    code = (
        "import sys\nfrom tuner.execution.cluster_address import check_answers\n"
        f"try:\n    check_answers('127.0.0.1:{closed_port}')\n"
        "except Exception as error:\n    print(error, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "refused False" in done.stdout


def test_without_a_loopback_interface_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # set back afterwards: it is not respected here
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(
        StudyHalted, match=r"^Ray does not start here \(.*Network is unreachable\); mend that$"
    ):
        start_ray(None)
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert "RAY_AUTH_MODE" not in os.environ


def test_a_cluster_that_another_user_has_named_is_not_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    named = tmp_path / "ray" / "ray_current_cluster"
    named.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        named.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        if user == 0:
            os.chown(named, 12345, -1)
        with pytest.raises(
            UsageError, match=r"ray_current_cluster was written by user .*; name the cluster as HOST:PORT"
        ):
            start_ray("auto")
        with pytest.raises(BlockingIOError):
            server.accept()
