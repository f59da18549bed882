"""Starts a Ray worker by asking the fork server for one; run by the raylet in the place of Ray's `setup_worker.py`.

Only the standard library is imported: this process lives as long as its worker. Without an answer of the fork server,
or for a worker of another Python, Ray's script takes over.
"""

import json
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

SOCKET = "workers"  # in the folder above Ray's own
IMPORTS_S = 120.0  # how long to wait for the server's imports
RAYS_OWN = ("--language=", "--serialized-runtime-env-context=")


def main() -> None:
    argv = sys.argv[1:]
    given = {word.partition("=")[0]: word.partition("=")[2] for word in argv if word.startswith("--")}
    asked = json.loads(given.get("--serialized-runtime-env-context") or "{}")
    variables = asked.pop("env_vars", {})  # Tune has one for each of its actors
    same = not any(
        value for name, value in asked.items() if (name, value) != ("py_executable", sys.executable)
    )
    if given.get("--language") == "PYTHON" and same:
        worker = _forked(Path(given["--temp-dir"]).parent / SOCKET, argv, variables)
        while worker and worker.recv(1):  # nothing is ever sent: this is its end
            pass
        if worker:
            return
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    script = Path(spec.origin).with_name("_private") / "workers/setup_worker.py"
    os.execv(sys.executable, [sys.executable, str(script), *argv])


def _forked(address: Path, argv: list[str], variables: dict[str, str]) -> socket.socket | None:
    """Return the connection that is open as long as the worker lives, or None if there is no worker."""
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(IMPORTS_S)
    asked = {
        "argv": [word for word in argv if not word.startswith(RAYS_OWN)],
        "environment": os.environ | variables,
        "folder": os.getcwd(),
    }
    body = json.dumps(asked).encode()
    try:
        server.connect(str(address))
        socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(body)
        if server.recv(6) != b"ready\n":
            return None
        server.sendall(b"go\n")
    except OSError:
        return None
    server.settimeout(None)
    return server


if __name__ == "__main__":
    main()
