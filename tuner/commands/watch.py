"""`launch.py --watch [RUN]`: the report of a run as it is now, served on loopback and kept up to date."""

import contextlib
import hashlib
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import NoReturn

from trainables.base.errors import InputError
from tuner.base.errors import UsageError
from tuner.base.private_files import write_private
from tuner.base.records import State
from tuner.base.text import as_line, counted, one_line
from tuner.commands import status
from tuner.commands.run_state import RunSnapshot, RunState, read_run
from tuner.commands.stored_result import result_of
from tuner.commands.watch_server import HOST, Page, PageServer
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.task_options import NEWEST
from tuner.report.build import report_blocks, report_page
from tuner.report.data import report_data
from tuner.report.live import live_box
from tuner.report.markup import Markup
from tuner.report.page import policy_of
from tuner.store.run_folder import all_runs

REFRESH_S = 2.0  # between two looks at the run
SHARE = 4  # times what a look took: a page of thousands of trials takes a quarter of a core at most
UNWATCHED_S = 30.0  # without a request the run is not looked at


def watch(options: LaunchOptions, show: Callable[[str], None]) -> int:
    """Serve the page of the run that the options name until Ctrl-C; return 0.

    Raises:
        UsageError: there is no such run, it cannot be read, or the port is taken.
    """
    assert options.watch is not None
    name = newest(options.storage) if options.watch == NEWEST else options.watch
    watched = WatchedRun(lambda: read_run(name, options.storage, options.study_storage))
    watched.look()
    if watched.page.failed:
        raise UsageError(watched.page.body.decode().strip())
    try:
        server = PageServer(watched.asked, options.port)
    except OSError as error:
        raise UsageError(
            f"--port {options.port} cannot be used ({error.strerror or error}); without it a free one is taken"
        ) from error
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        with opened(server.url) if options.open else contextlib.nullcontext():
            show("\n".join(_words(name, server)))
            watched.keep_up()
    except KeyboardInterrupt:
        return 0
    finally:
        server.shutdown()
        server.server_close()


def newest(root: str) -> str:
    """Return the newest run below a root.

    Raises:
        UsageError: there is none.
    """
    runs = all_runs(root)
    if not runs:
        raise UsageError(
            f"there is no run in {root}; name its root with --storage, or start one with --study STUDY"
        )
    return runs[-1][0].name


def _words(name: str, server: PageServer) -> list[str]:
    port = server.server_port
    return [
        f"watching {as_line(name)}: {server.url}",
        "Whoever has this address sees the report; it works on this machine alone. From another one:",
        f"  ssh -N -L {port}:{HOST}:{port} USER@THIS-MACHINE",
        "It only reads: the run goes on without it. Ctrl-C ends it.",
    ]


@contextlib.contextmanager
def opened(url: str) -> Iterator[None]:
    """Open the browser at an address.

    It gets a file of this user's that leads there: a browser's command line can be read by every user of the machine.
    """
    with tempfile.TemporaryDirectory(prefix="robust-tuner-watch-") as folder:
        file = Path(folder) / "open.html"
        address = escape(url)
        write_private(
            file, f'<meta http-equiv="refresh" content="0; url={address}"><a href="{address}">run</a>'
        )
        webbrowser.open(file.as_uri())
        yield


class WatchedRun:
    """The newest page of a run; looked up in one thread, asked for in others.

    Args:
        read: returns the run as it is stored now, or raises UsageError or InputError, which the page then says.
        clock: seconds.
    """

    def __init__(self, read: Callable[[], RunSnapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._asked_at = clock()
        self._asked = threading.Event()
        self.page = Page(b"the run has not been read yet\n", "", failed=True)

    def asked(self) -> Page:
        """Return the page, and have the run looked at again."""
        self._asked_at = self._clock()
        self._asked.set()
        return self.page

    def keep_up(self) -> NoReturn:
        """Look at the run again and again while somebody asks; never returns."""
        while True:
            started = self._clock()
            self.look()
            time.sleep(max(REFRESH_S, SHARE * (self._clock() - started)))
            if self._clock() - self._asked_at > UNWATCHED_S:
                self._asked.clear()
                self._asked.wait()

    def look(self) -> None:
        """Read the run, and make its page anew if anything has changed."""
        try:
            run = self._read()
            tag = tag_of(run)
            if tag != self.page.tag:
                self.page = page_of(run, tag)
        except (UsageError, InputError, OSError) as error:
            self.page = Page(f"{one_line(error)}\n".encode(), "", failed=True)


def tag_of(run: RunSnapshot) -> str:
    """Return a digest of everything of a run that its page shows."""
    trials = [(r.key, r.state, r.epochs, r.attempt) for r in run.records]
    finished = bool(run.facts.get("finished"))
    parts = (run.state, run.stage, run.restart, run.reason, finished, sorted(run.notes), trials)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def page_of(run: RunSnapshot, tag: str) -> Page:
    """Return the page of a run: the report that it ended with, or what is known so far under a box with its state."""
    finished = _finished(run)
    if finished is not None:
        return Page(finished, tag, policy_of())
    result = result_of(run)
    data = report_data(result)
    page = report_page(result, data, report_blocks(result, data), _box(run, tag))
    return Page(page.encode(), tag, policy_of(live=True))


def _finished(run: RunSnapshot) -> bytes | None:
    """Return the report.html of a run that is done, if this version wrote it: the scripts of others are not run."""
    if run.state is not RunState.DONE or not run.facts.get("finished"):
        return None
    try:
        found = run.folder.files.read("report.html")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{run.folder.uri}/report.html cannot be read: {error.strerror or error}") from error
    known = policy_of().rpartition(" ")[2].strip("'").encode()
    return found if known in found else None


def _box(run: RunSnapshot, tag: str) -> Markup:
    alive = run.state is RunState.RUNNING
    words = status.state_text(run)
    stage = f", stage {run.stage}" if alive and run.stage else ""
    ended = f"{run.ended} of {counted(run.total, 'trial')} of the searches ended"
    lines = [f"{ended}; best so far: {status.best_text(run)}."]
    if run.to_confirm:
        lines.append(f"Fresh seeds: {run.confirmed} of {run.to_confirm} trained.")
    if run.state is not RunState.DONE:
        left = status.time_text(run.time_left)
        lines.append(f"{left[0].upper()}{left[1:]}.")
        lines.append(
            "What follows is as far as the run has come. It is read from the run's storage, ahead of MLflow."
        )
    if not status.goes_on(run):
        lines.append(f"To go on: `{run.resume_command}`")
    running = [status.trial_text(run, r, alive) for r in run.records if r.state is State.RUNNING]
    return live_box(f"{words[0].upper()}{words[1:]}{stage}", lines, running, moves=alive, tag=tag)
