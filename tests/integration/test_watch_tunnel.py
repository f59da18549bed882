"""--watch through `ssh -L`, as from a laptop before a cluster's head: a real sshd on loopback, a real tunnel."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.runs import StoredRun

ROOT = Path(__file__).resolve().parents[2]
SSHD, SSH = shutil.which("sshd", path="/usr/sbin:/usr/bin"), shutil.which("ssh")
PATIENCE_S = 60.0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SSHD and SSH), reason="ssh or sshd is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd wants root for a login"),
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_port(port: int) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


@pytest.fixture
def login(tmp_path: Path) -> Iterator[list[str]]:
    """Return the words of ssh, up to its options, for a login on a server of this test's own."""
    port = free_port()
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(words, check=True)
    keys = tmp_path / "authorized_keys"
    keys.write_text((tmp_path / "user.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    options = (
        f"AuthorizedKeysFile={keys}",
        "StrictModes=no",
        "UsePAM=no",
        "PermitRootLogin=yes",
        "PidFile=none",
    )
    words = [str(SSHD), "-D", "-e", "-f", "/dev/null", "-h", str(tmp_path / "host"), "-p", str(port)]
    for option in (*options, "ListenAddress=127.0.0.1"):
        words += ["-o", option]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    wait_for_port(port)
    yield [
        *(str(SSH), "-p", str(port), "-i", str(tmp_path / "user"), "-F", "/dev/null"),
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known'}"),
        *("-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"),
    ]
    server.terminate()
    server.wait(30)


def test_the_page_comes_through_a_tunnel_to_another_port(tmp_path: Path, login: list[str]) -> None:
    StoredRun(tmp_path / "runs", trials=2)
    words = [sys.executable, "launch.py", "--watch", "one", "--storage", str(tmp_path / "runs")]
    watched = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert watched.stdout is not None
    url = watched.stdout.readline().split()[-1]
    port, token = url.removeprefix("http://127.0.0.1:").rstrip("/").split("/")
    here = free_port()
    way = f"{here}:127.0.0.1:{port}"
    tunnel = subprocess.Popen(
        [*login, "-N", "-L", way, f"{getpass.getuser()}@127.0.0.1"], stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(here)
        with urllib.request.urlopen(f"http://localhost:{here}/{token}/", timeout=30) as answer:
            assert 'id="live"' in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://localhost:{here}/", timeout=30)
    finally:
        tunnel.terminate()
        watched.send_signal(signal.SIGINT)
        assert watched.wait(30) == 0
        tunnel.wait(30)
