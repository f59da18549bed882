"""Real servers for the tests of tracking, each a process of its own on loopback, and a proxy that misbehaves."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the user's MLflow settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def basic_auth_server(folder: Path, port: int, password: str, database: str = "mlflow.db") -> Iterator[None]:
    """Run an MLflow server with its own login: user admin."""
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///auth.db\n"
        f"admin_username = admin\nadmin_password = {password}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
    }
    arguments = ("server", "--workers", "1", "--app-name", "basic-auth")
    store = ("--backend-store-uri", f"sqlite:///{database}")
    with mlflow_server(folder, port, *arguments, *store, variables=variables):
        yield


@contextmanager
def mlflow_server(
    folder: Path, port: int, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run `mlflow server` (or what the arguments say) and end it, with its workers, by its process group."""
    what = arguments or ("server", "--workers", "1")
    command = [sys.executable, "-m", "mlflow", *what, "--port", str(port)]
    with open(folder / "server.log", "ab") as output:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**(variables or {})),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except urllib.error.HTTPError:  # it answers, be it with a refusal
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class Proxy:
    """An HTTP server between client and MLflow.

    Attributes:
        delay: of a path: seconds before a request goes on to MLflow, seconds before its answer goes back. It is
            carried out in full even if the client has gone meanwhile, as servers do.
        broken: answer 500 instead.
        every: if above 0, answer 500 to every so-manieth request.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.delay: Callable[[str], tuple[float, float]] = lambda path: (0, 0)
        self.broken, self.every, self._seen = False, 0, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                proxy._seen += 1
                if proxy.broken or (proxy.every and proxy._seen % proxy.every == 0):
                    self.reply(500, b"<html>Internal Server Error</html>")
                    return
                before_s, after_s = proxy.delay(self.path)
                time.sleep(before_s)
                connection = HTTPConnection("127.0.0.1", target, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    found = connection.getresponse()
                    content = found.read()
                except OSError:
                    self.reply(502, b"")
                    return
                finally:
                    connection.close()
                time.sleep(after_s)
                self.reply(found.status, content, found.headers.get("Content-Type", ""))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def reply(self, status: int, content: bytes, kind: str = "text/html") -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:  # the client has given up
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
