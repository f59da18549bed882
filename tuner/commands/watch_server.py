"""Serves one page on this machine's loopback: read only, behind a random token, and to no name but loopback's own."""

import hmac
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost", "[::1]")  # a tunnel may end at another port, so any port is right
TOKEN_BYTES = 24
SILENCE_S = 10.0  # a connection that says nothing for this long is closed


@dataclass(frozen=True)
class Page:
    """What is served.

    Attributes:
        body: the HTML; of a page that cannot be made, the reason in one line.
        tag: changes whenever the body does in anything but its date.
        policy: its Content-Security-Policy.
        failed: the body is a reason.
    """

    body: bytes
    tag: str
    policy: str = "default-src 'none'"
    failed: bool = False


class PageServer(ThreadingHTTPServer):
    """Answers GET and HEAD of /TOKEN/ and /TOKEN/page; every other path is 404, every other method 501.

    Args:
        page: returns what to serve; called in the thread of a request.
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, page: Callable[[], Page], port: int = 0) -> None:
        self.page = page
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def knows(self, path: str) -> bool:
        """Return whether a path is one of the page's; how long that takes says nothing of the token."""
        known = (f"/{self.token}/", f"/{self.token}/page")
        return any([hmac.compare_digest(path.encode(), own.encode()) for own in known])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a reader that has gone; any other error as usual."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "robust-tuner", ""
    timeout = SILENCE_S

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        if not _is_loopback(self.headers.get_all("Host", [])):
            self._send(HTTPStatus.FORBIDDEN, b"only for 127.0.0.1 and localhost\n", with_body)
        elif not self.server.knows(self.path.partition("?")[0]):
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", with_body)
        else:
            self._send_page(self.server.page(), with_body)

    def _send_page(self, page: Page, with_body: bool) -> None:
        tag = f'"{page.tag}"'
        if page.failed:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, page.body, with_body)
        elif self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, b"", with_body, ETag=tag)
        else:
            more = {"ETag": tag, "Content-Security-Policy": f"{page.policy}; frame-ancestors 'none'"}
            self._send(HTTPStatus.OK, page.body, with_body, "text/html; charset=utf-8", **more)

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        with_body: bool,
        kind: str = "text/plain; charset=utf-8",
        **more: str,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",  # the URL holds the token, and the page has links to MLflow
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **more,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: a request's line holds the token."""


def _is_loopback(hosts: list[str]) -> bool:
    """Return whether a request names loopback, once: a page of elsewhere whose name leads here names itself."""
    if len(hosts) != 1:
        return False
    name, colon, port = hosts[0].strip().lower().rpartition(":")
    if not colon or hosts[0].strip().endswith("]"):  # without a port
        name, port = hosts[0].strip().lower(), "80"
    return name in NAMES and port.isascii() and port.isdigit()
