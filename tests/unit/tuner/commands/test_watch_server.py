"""The server of a watched run, asked over real sockets: who gets the page, who does not, and what goes with it."""

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tuner.commands.watch_server import Page, PageServer


class Shown:
    page = Page(b"<p>the page</p>", "one", "default-src 'none'; script-src 'sha256-x'")

    def __call__(self) -> Page:
        return self.page


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def server(shown: Shown) -> Iterator[PageServer]:
    made = PageServer(shown)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def ask(
    server: PageServer, path: str, method: str = "GET", hosts: tuple[str, ...] | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of one request, sent as it is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for host in (f"127.0.0.1:{server.server_port}",) if hosts is None else hosts:
        connection.putheader("Host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body, found = answer.read(), dict(answer.getheaders())
    connection.close()
    return answer.status, body, found


def test_the_page_is_behind_its_token(server: PageServer) -> None:
    status, body, headers = ask(server, f"/{server.token}/")
    assert (status, body) == (200, b"<p>the page</p>")
    assert (
        headers["Content-Security-Policy"]
        == "default-src 'none'; script-src 'sha256-x'; frame-ancestors 'none'"
    )
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in headers)
    assert ask(server, f"/{server.token}/page?x=1")[0] == 200
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"


@pytest.mark.parametrize(
    "path",
    ["/", "/{wrong}/", "/{short}/", "/{token}", "/{token}/plan.json", "/{token}/..", "/{token}/page/",
     "/x/../{token}/", "/{token}%2F", "*", "http://[", "/\xe9/"],
)  # fmt: skip
def test_nothing_else_is_there(server: PageServer, path: str) -> None:
    wrong = ("A" if server.token[0] != "A" else "B") + server.token[1:]
    asked = path.format(token=server.token, wrong=wrong, short=server.token[:-1])
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as line:
        line.sendall(f"GET {asked} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert b" 404 " in answer.partition(b"\r\n")[0]
    assert answer.endswith(b"not found\n")


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (("127.0.0.1:1",), 200),  # a tunnel that ends at another port
        (("localhost:9000",), 200),
        (("LOCALHOST",), 200),
        (("[::1]:9000",), 200),
        (("[::1]",), 200),
        (("evil.example",), 403),
        (("evil.example:8080",), 403),
        (("127.0.0.1.evil.example",), 403),
        (("localhost.evil.example:80",), 403),
        (("evil.example:80@127.0.0.1",), 403),
        (("127.0.0.1", "evil.example"), 403),
        (("127.0.0.1:",), 403),
        (("127.0.0.1:x",), 403),
        (("0.0.0.0",), 403),
        (("",), 403),
        ((), 403),
    ],
)
def test_a_name_that_was_led_here_is_refused(server: PageServer, hosts: tuple[str, ...], status: int) -> None:
    """DNS rebinding: a page of evil.example whose name now means 127.0.0.1 asks with its own name."""
    found, body, _ = ask(server, f"/{server.token}/", hosts=hosts)
    assert found == status
    assert (b"the page" in body) == (status == 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_reads(server: PageServer, method: str) -> None:
    assert ask(server, f"/{server.token}/", method)[0] == 501


def test_head_has_no_body(server: PageServer) -> None:
    status, body, headers = ask(server, f"/{server.token}/", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "15")


def test_what_is_known_is_not_sent_again(server: PageServer, shown: Shown) -> None:
    tag = ask(server, f"/{server.token}/page")[2]["ETag"]
    assert ask(server, f"/{server.token}/page", If_None_Match=tag)[:2] == (304, b"")
    shown.page = Page(b"newer", "two")
    assert ask(server, f"/{server.token}/page", If_None_Match=tag)[:2] == (200, b"newer")


def test_a_page_that_cannot_be_made_says_why(server: PageServer, shown: Shown) -> None:
    shown.page = Page(b"study.db is locked\n", "", failed=True)
    assert ask(server, f"/{server.token}/")[:2] == (503, b"study.db is locked\n")


def test_it_listens_on_loopback_alone_and_each_has_its_own_token(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with PageServer(Shown()) as other:
        assert other.token != server.token
    assert len(server.token) == 32  # 24 bytes


def test_nothing_is_logged_and_a_reader_that_goes_makes_no_noise(server: PageServer, capfd: Any) -> None:
    ask(server, f"/{server.token}/")
    with socket.create_connection(("127.0.0.1", server.server_port)) as line:
        line.sendall(b"GET /")
    ask(server, "/")
    assert capfd.readouterr() == ("", "")
