"""What the fork server agrees to; tests/integration/test_forked_workers.py has its forks work for Ray."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.execution import fork_server, worker_start

FIRST = {"RAY_JOB_ID": "01"}


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "workers"


@pytest.fixture
def listener(address: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(address))
        made.listen()
        yield made


@pytest.fixture(autouse=True)
def without_ray_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own import leaves some in the process of the tests."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


def asked(listener: socket.socket, address: Path, **variables: str) -> tuple[Any, bool]:
    """Return what the server agrees to, and whether the client believes that there is a worker."""
    words = ["/ray/default_worker.py", "--language=PYTHON", "--worker-id=7"]
    got: list[Any] = []
    client = threading.Thread(target=lambda: got.append(worker_start._forked(address, words, variables)))
    client.start()
    connection, _ = listener.accept()
    start = fork_server.agreed(connection, dict(FIRST))
    connection.close()
    client.join()
    if got[0] is not None:
        assert got[0].recv(1) == b"", "the end of the worker is the end of the connection"
        got[0].close()
    for stream in start.streams if start is not None else ():
        assert os.fstat(stream)  # one's own descriptor of the client's stream
        os.close(stream)
    return start, got[0] is not None


def test_a_worker_gets_its_command_line_environment_and_streams(
    listener: socket.socket, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "threads", lambda: 1)
    monkeypatch.setenv("RAY_JOB_ID", "01")
    start, believed = asked(listener, address, OF_THE_ACTOR="1")
    assert believed
    assert start.argv == ["/ray/default_worker.py", "--worker-id=7"]  # the rest is for Ray's start script
    assert (start.environment["OF_THE_ACTOR"], start.folder) == ("1", os.getcwd())
    assert len(start.streams) == 3


@pytest.mark.parametrize(("job", "threads"), [("02", 1), ("01", 2)])
def test_another_job_and_other_threads_are_refused(
    listener: socket.socket, address: Path, job: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray reads of its environment once is that of the first worker; a fork copies the locks of other threads."""
    monkeypatch.setattr(fork_server, "threads", lambda: threads)
    monkeypatch.setenv("RAY_JOB_ID", job)
    assert asked(listener, address) == (None, False)


def test_nobody_there_is_no_worker(address: Path) -> None:
    assert worker_start._forked(address, [], {}) is None


def test_a_process_that_has_begun_to_use_a_gpu_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "7f00 r-xp /usr/lib/x86_64-linux-gnu/libcuda.so.1\n")
    assert not fork_server.can_be_forked()
