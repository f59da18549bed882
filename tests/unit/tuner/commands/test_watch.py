"""--watch: the page of a run while it runs, after a kill and at its end; what a browser is given; what is refused."""

import os
import socket
import stat
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runs import StoredRun
from tests.unit.study_results import realistic
from tuner.base.errors import UsageError
from tuner.cli import run as launch
from tuner.commands.run_state import RunSnapshot, RunState, read_run
from tuner.commands.watch import WatchedRun, newest, opened, page_of, tag_of
from tuner.report.build import report_files


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    made = StoredRun(tmp_path, trials=4)
    queue = made.queue()
    for level in (0.5, 0.6):
        made.trial(queue, [level] * 9)
    return made


def snapshot(stored: StoredRun) -> RunSnapshot:
    return read_run(stored.folder.name, stored.folder.root)


def text(run: RunSnapshot) -> str:
    return page_of(run, "tag").body.decode()


def test_a_killed_run_shows_how_it_goes_on(stored: StoredRun) -> None:
    page = text(snapshot(stored))
    assert 'class="live still"' in page
    assert 'data-tag="tag"' in page  # the first question of the page is for what is newer than itself
    assert "Interrupted" in page
    assert "--resume one" in page
    assert "2 of 8 trials of the searches ended" in page
    assert 'id="all-trials"' in page
    assert "connect-src &#x27;self&#x27;" in page


def test_a_run_that_is_driven_shows_its_stage_and_what_runs(stored: StoredRun) -> None:
    queue = stored.queue()
    assignment = queue.next()
    assert assignment is not None
    run = replace(snapshot(stored), state=RunState.RUNNING)
    page = text(run)
    assert 'class="live"' in page
    assert "Trials that have begun and not ended: 1" in page
    assert f"trial {assignment.key} runs: 0 of 9 epochs done" in page
    assert "--resume" not in page
    assert "Best configuration of the search so far" in page
    assert "The confirm stage is not over" in page


def test_the_page_is_made_anew_where_something_has_changed_and_only_there(stored: StoredRun) -> None:
    first = snapshot(stored)
    assert tag_of(first) == tag_of(snapshot(stored))
    read = iter([first, first])
    watched = WatchedRun(lambda: next(read))
    watched.look()
    made = watched.page
    watched.look()
    assert watched.page is made
    stored.trial(stored.queue(), [0.9])
    changed = snapshot(stored)
    assert tag_of(changed) != tag_of(first)
    for other in (
        replace(first, state=RunState.RUNNING),
        replace(first, notes={**first.notes, "evaluation/0000": {}}),
        replace(first, facts={**first.facts, "finished": True}),
    ):
        assert tag_of(other) != tag_of(first)


def test_a_run_that_cannot_be_read_says_why_and_recovers(stored: StoredRun) -> None:
    def broken() -> RunSnapshot:
        raise UsageError("study.db is locked")

    run = snapshot(stored)
    answers = iter([broken, lambda: run, broken, lambda: run])
    watched = WatchedRun(lambda: next(answers)())
    watched.look()
    assert (watched.page.failed, watched.page.body) == (True, b"study.db is locked\n")
    for failed in (False, True, False):
        watched.look()
        assert watched.asked().failed is failed


def test_a_finished_run_shows_the_report_that_it_ended_with(stored: StoredRun) -> None:
    page = report_files(realistic(3))["report.html"]
    run = snapshot(stored)
    done = replace(run, state=RunState.DONE, facts={**run.facts, "finished": True})
    assert 'id="live"' in text(done)  # the report is missing
    stored.folder.files.write("report.html", page.encode())
    assert text(done) == page
    assert f'content="{escape(page_of(done, "").policy)}"' in page  # what the page says of itself
    stored.folder.files.write("report.html", b"<script>steal()</script>")
    assert "steal" not in text(done)


def test_the_browser_is_given_a_file_that_nobody_else_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr("webbrowser.open", given.append)
    with opened("http://127.0.0.1:1/secret-token/"):
        (address,) = given
        file = Path(address.removeprefix("file://"))
        assert "secret-token" not in address
        assert "secret-token" in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.exists()


def test_the_newest_run_is_watched_by_default(tmp_path: Path) -> None:
    for name in ("first", "second"):
        made = StoredRun(tmp_path, name, trials=1)
        made.folder.update(created=f"2026-11-30T12:00:0{len(name) % 5}")
    assert newest(str(tmp_path)) == "second"  # 6 % 5 = 1; first: 5 % 5 = 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--watch", "two"], "run 'two' does not exist"),
        (["--watch", "../one"], "--watch is '../one'; a name may hold only"),
        (["--watch", "one", "--port", "99999"], "--port is '99999'; it must be at most 65535"),
        (["--status", "--port", "80"], "--port does not go with --status; it goes with --watch"),
        (["--status", "--open"], "--open does not go with --status"),
    ],
)
def test_what_is_refused(stored: StoredRun, arguments: list[str], says: str, capsys: Any) -> None:
    assert launch([*arguments, "--storage", stored.folder.root]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_a_port_that_is_taken_and_a_root_without_runs(stored: StoredRun, capsys: Any, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert launch(["--watch", "one", "--port", port, "--storage", stored.folder.root]) == 2
    assert f"--port {port} cannot be used (Address already in use)" in capsys.readouterr().err
    os.mkdir(tmp_path / "empty")
    assert launch(["--watch", "--storage", str(tmp_path / "empty")]) == 2
    assert "there is no run in" in capsys.readouterr().err
