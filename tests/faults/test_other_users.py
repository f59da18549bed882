"""Another user of the machine, while a study runs: reads, writes, swaps and connects to all that he can reach."""

import encodings.idna  # noqa: F401 - as grpc._channel: loaded before the user changes
import http.client
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc._channel  # grpc would load it later, as a user who may not read the libraries
import psutil
import pytest

from tests.integration.conftest import Launcher, launcher_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]
NOBODY = 65534
PASSWORD = "of-the-database"
STUDY = [
    "--study",
    "aoe_sigma",
    "--run-name",
    "r",
    "--trials",
    "2",
    "--max-epochs",
    "60",
    "--stages",
    "search",
    "--concurrency",
    "1",
]
STUDY += ["--set", "pretrain.epochs=1", "--set", "outliers.count=200"]


@pytest.fixture
def public() -> Iterator[Launcher]:
    """Launches in folders that everybody may enter, as a home with mode 755 is, with the umask of most machines."""
    folder = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))
    folder.chmod(0o755)
    before = os.umask(0o022)
    for name, mode in (("t", 0o1777), ("home", 0o755), ("home/.ray", 0o755)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "home" / ".ray" / "auth_token").write_text(
        "left behind by Ray's own tool, readable for everybody"
    )
    for launcher in launcher_in(folder, store=False):
        del launcher.environment["RAY_TMPDIR"]
        launcher.environment |= {
            "TMPDIR": str(folder / "t"),
            "HOME": str(folder / "home"),
            "PGPASSWORD": PASSWORD,
        }
        yield launcher
    os.umask(before)
    shutil.rmtree(folder, ignore_errors=True)


def as_nobody(attack: Callable[[], list[str]]) -> list[str]:
    """Return what a function returns that runs as another user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(reader)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, json.dumps(attack()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    found: list[str] = json.loads(text)  # empty if the attack itself failed: then the test does too
    return found


def succeeds(what: Callable[[], object]) -> bool:
    try:
        what()
    except OSError:
        return False
    return True


def files_reached(paths: list[Path]) -> list[str]:
    """Return what can be read, written, listed, added to, renamed or connected to among paths that exist."""
    reached = []
    for path in paths:
        attempts: dict[str, Callable[[], object]] = {"renamed": lambda path=path: path.rename(f"{path}.mine")}
        if path.is_dir() if os.access(path.parent, os.X_OK) else False:
            attempts["listed"] = lambda path=path: os.listdir(path)
            attempts["added to"] = lambda path=path: (path / "mine").touch()
        else:
            attempts["read"] = lambda path=path: open(path, "rb").close()
            attempts["written"] = lambda path=path: open(path, "r+b").close()
            attempts["connected"] = lambda path=path: socket.socket(socket.AF_UNIX).connect(str(path))
        reached += [f"{path} {name}" for name, attempt in attempts.items() if succeeds(attempt)]
    return reached


def ports_reached(ports: list[int]) -> list[str]:
    """Return the ports whose service does something for who has no token: Ray's own calls and its job server's."""
    reached = []
    for port in ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for call in ("InternalKVGcsService/InternalKVPut", "NodeInfoGcsService/GetAllNodeInfo"):
                with suppress(grpc.RpcError):
                    channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=1)
                    reached.append(f"{port} {call}")
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            body = json.dumps({"entrypoint": "true"})
            connection.request("POST", "/api/job_agent/jobs/", body, {"Content-Type": "application/json"})
            if connection.getresponse().status < 400:
                reached.append(f"{port} jobs")
    return reached


def processes_reached(pids: list[int]) -> list[str]:
    """Return the processes whose environment can be read, or whose command line holds a secret."""
    reached = [
        f"{pid} environ"
        for pid in pids
        if succeeds(lambda pid=pid: Path(f"/proc/{pid}/environ").read_bytes())
    ]
    for pid in pids:
        with suppress(OSError):
            if PASSWORD.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                reached.append(f"{pid} cmdline")
    return reached


def test_another_user_gets_nowhere(public: Launcher) -> None:
    process = public.start(*STUDY)
    public.wait_for("r", "== search", 1, process)
    driver = psutil.Process(process.pid)
    pids = [p.pid for p in [driver, *driver.children(recursive=True)]]
    (private,) = (public.folder / "t").glob("rtune-*")
    while not list(private.rglob("plasma_store")):
        time.sleep(0.1)
    ours = [public.folder / "runs" / "r", public.folder / "mlflow.db", public.folder / "mlruns", private]
    ours += [public.folder / "home" / ".ray" / "auth_token"]
    paths = [*ours, *(path for each in ours if each.is_dir() for path in each.rglob("*"))]
    names = {path.name for path in paths}
    assert names >= {
        "plan.json",
        "study.db",
        "mlflow.spool",
        "console.log",
        "plasma_store",
        "raylet",
    }

    listening = [c.laddr for pid in pids for c in connections(pid) if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5
    assert {str(address.ip).removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

    assert as_nobody(lambda: files_reached([public.folder / "t"])) != []  # the attack finds what is open
    assert as_nobody(lambda: files_reached(paths)) == []
    assert as_nobody(lambda: processes_reached(pids)) == []
    assert as_nobody(lambda: ports_reached(sorted({address.port for address in listening}))) == []

    assert process.poll() is None  # all of it while the study ran
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 143, out + err
    assert not private.exists()


def connections(pid: int) -> list[Any]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).net_connections("inet"))
    return []
