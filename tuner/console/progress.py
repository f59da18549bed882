"""The console during a run: a live display on a terminal, few plain lines elsewhere, and console.log.

console.log has one line per event, whatever the screen shows. Imports nothing heavy; rich only on a terminal.
"""

import os
import shutil
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from trainables.base.permissions import created, make_folder
from tuner.analysis.metric_text import duration, settings_text
from tuner.analysis.results import StudyResult
from tuner.base.records import State, TrialRecord
from tuner.base.text import counted, visible
from tuner.base.trial_listener import TrialListener
from tuner.console.answer_text import Line, Link, Prose, answer_lines
from tuner.console.preview import plan_text
from tuner.console.run_progress import RunProgress, clock_text, stage_of
from tuner.console.safe_stream import SafeStream
from tuner.planning.plan import Plan

REFRESH_S, TICK_S = 0.25, 1.0
MOST_FAILURES, MOST_BESTS, SHARES = 20, 30, 20  # lines of each kind on a plain screen


class Console(TrialListener):
    """Shows the progress of a run; a listener of the trial queue.

    Events come from the driver's thread. On a terminal a second thread draws once a second, so that the clock goes on;
    a lock keeps the two apart.

    Args:
        total_trials: of the search stage, over all its lanes.
        log: the run's console.log; appended to. None writes none.
        plain: lines instead of the live display; None decides by the stream.
        clock: seconds, for elapsed times and the pace of redrawing.
        width: of the screen in characters; None asks the terminal.
        tick_s: between two drawings without an event; None draws at events alone.
        load: returns the load of this machine in words; None measures it.
    """

    def __init__(
        self,
        plan: Plan,
        total_trials: int,
        *,
        log: Path | None = None,
        stream: TextIO | None = None,
        plain: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        width: int | None = None,
        tick_s: float | None = TICK_S,
        load: Callable[[], str] | None = None,
    ) -> None:
        self.plan, self.clock = plan, clock
        self.out = SafeStream(sys.stdout if stream is None else stream)
        self.plain = (not self.out.isatty() or os.environ.get("TERM") == "dumb") if plain is None else plain
        self._asked_width, self._tick_s, self._load = width, tick_s, load
        self._began = clock()
        totals = {"search": total_trials, "confirm": (len(plan.arms) + 1) * plan.confirm_seeds}
        self._run = RunProgress(plan, totals, clock)
        self._line_counts: Counter[str] = Counter()
        self._live: Any = None
        self._drawn, self._devices, self._measured = -REFRESH_S, "", -TICK_S
        self._lock, self._ended = threading.RLock(), threading.Event()
        if log is not None:
            make_folder(log.parent)
        self._log_path = log
        self._log = open(created(log), "a", encoding="utf-8", buffering=1) if log is not None else None  # noqa: SIM115

    @property
    def reference(self) -> Mapping[str, float]:
        """Return the pretrained classifier's validation metrics, {} before they are known."""
        return self._run.reference

    @reference.setter
    def reference(self, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._run.reference = metrics

    @property
    def width(self) -> int:
        """Return the screen's width in characters as it is now."""
        if self._asked_width is None and self._live is not None:
            return int(self._live.console.width)
        return self._asked_width or shutil.get_terminal_size((100, 24)).columns

    # -- events of the queue ---------------------------------------------------------------------------

    def load_earlier(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of the launches before a resume, without a line for each."""
        with self._lock:
            self._run.load_earlier(records)
            ended = sum(self._run.done.values())
            if ended:
                self._say(f"resumed: {counted(ended, 'trial')} had ended before")

    def started(self, record: TrialRecord) -> None:
        with self._lock:
            self._run.follow(record)
            again = f", attempt {record.attempt} from epoch {record.epochs}" if record.attempt > 1 else ""
            self._write_log(f"trial {record.key} started{again}: {settings_text(record)}")
            self._draw()

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        with self._lock:
            self._run.follow(record)
            metrics = record.history[epoch].metrics if epoch in record.history else {}
            shown = ", ".join(f"{name}={value:.5g}" for name, value in metrics.items())
            self._write_log(f"trial {record.key} epoch {epoch}: {shown}")
            self._draw()

    def ended(self, record: TrialRecord) -> None:
        with self._lock:
            best, stage = self._run.ended(record), stage_of(record)
            reason = f": {_line(record.reason)}" if record.reason else ""
            took = duration(record.seconds)
            self._write_log(
                f"trial {record.key} {record.state.value} at epoch {record.epochs}, {took}{reason}"
            )
            if record.state is State.FAIL:
                self._say_limited("failures", MOST_FAILURES, f"trial {record.key} failed{reason}")
            elif best:
                value = self._run.objective_text(record)
                settings = f" ({settings_text(record)})" if record.params else ""
                self._tell_limited(
                    "bests", MOST_BESTS, f"best so far: trial {record.number}, {value}{settings}"
                )
            if self._is_milestone(stage):
                self._tell(self._run.count_line(stage))
            self._draw()

    def _is_milestone(self, stage: str) -> bool:
        total, done = max(self._run.totals[stage], 1), self._run.done[stage]
        return done * SHARES // total > (done - 1) * SHARES // total

    # -- events of the run -----------------------------------------------------------------------------

    def stage(self, name: str, detail: str = "") -> None:
        """Announce a stage."""
        with self._lock:
            self._run.begin(name, detail)
            self._tell(f"== {name}{': ' + detail if detail else ''}")
            self._draw(now=True)

    def note(self, text: str) -> None:
        """Show one remark."""
        with self._lock:
            self._say(text)

    def progress(self, done: int, total: int, what: str) -> None:
        """Show the progress of a stage that has no trials of its own."""
        with self._lock:
            self._run.count(done, total, what)
            self._write_log(f"{what}: {done} of {total}")
            if self.plain and total and (done == total or done * 5 // total > (done - 1) * 5 // total):
                self._print(f"{what}: {done} of {total}")
            self._draw(now=done == total)

    def answer(self, result: StudyResult, folder: Path, failure: str = "") -> None:
        """Show the answer and where to read more; a failure, which the launch ends with, only in the log."""
        with self._lock:
            self._stop_live()
            self._block(answer_lines(result, folder, failure, None if self.plain else self.width))
            self._write_log(failure)

    def interrupted(self, resume_command: str) -> None:
        """Show the command that resumes the run."""
        with self._lock:
            self._stop_live()
            self._block(["", "interrupted; everything is saved. To go on:", f"  {resume_command}"])

    def close(self) -> None:
        """End the live display and close the log."""
        with self._lock:
            self._stop_live()
            if self._log is not None:
                self._log.close()
                self._log = None

    # -- writing ---------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Write one line to log and screen."""
        self._write_log(text)
        self._print(_line(text))

    def _tell(self, text: str) -> None:
        """Write one line to the log, and to a screen that has no live display to show the same."""
        self._write_log(text)
        if self.plain:
            self._print(_line(text))

    def _say_limited(self, kind: str, most: int, text: str) -> None:
        """Show a line of a kind that may come often; beyond `most` lines only the log has it."""
        self._line_counts[kind] += 1
        if self._line_counts[kind] < most:
            self._say(text)
        elif self._line_counts[kind] == most:
            self._say(f"{text}; further {kind} are in the log only")
        else:
            self._write_log(text)

    def _tell_limited(self, kind: str, most: int, text: str) -> None:
        if self.plain:
            self._say_limited(kind, most, text)
        else:
            self._write_log(text)

    def _block(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if isinstance(line, Link):
                self._write_log(f"  {line.name}: {line.url}")
                self.out.write(self._link(line) + "\n")
            else:
                self._write_log(line)
                self.out.write("\n".join(self._broken(line)) + "\n")
        if self._log_path is not None and any(self._is_long(line) for line in lines):
            self.out.write(visible(f"  (addresses in full: {self._log_path})") + "\n")
        self.out.flush()

    def _broken(self, line: str) -> list[str]:
        """Return a line as a screen shows it: sentences broken between words."""
        text = visible(line)
        if self.plain or not isinstance(line, Prose):
            return [text]
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        return textwrap.wrap(
            text, self.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )

    def _is_long(self, line: Line) -> bool:
        return isinstance(line, Link) and not self.plain and len(line.name) + len(line.url) + 4 > self.width

    def _link(self, link: Link) -> str:
        """Return an address; one that is longer than the screen as words that lead there (OSC 8)."""
        if not self._is_long(link):
            return visible(f"  {link.name}: {link.url}")
        return f"  \x1b]8;;{visible(link.url)}\x1b\\{visible(link.name)}\x1b]8;;\x1b\\"

    def _print(self, text: str) -> None:
        line = visible(f"[{clock_text(self.clock() - self._began)}] {text}")
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self.out.write(line + "\n")
            self.out.flush()

    def _write_log(self, text: str) -> None:
        if self._log is not None and text:
            self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {visible(_line(text))}\n")

    # -- the live display ------------------------------------------------------------------------------

    def _draw(self, now: bool = False) -> None:
        """Redraw, at most every REFRESH_S: with many short trials drawing would cost more than training."""
        if self.plain or self.out.closed_by_reader:
            return
        if not now and self.clock() - self._drawn < REFRESH_S:
            return
        from tuner.console.live_view import start, view

        self._drawn = self.clock()
        if self._live is None:
            self._live = start(self.out, self._asked_width or (None if self.out.isatty() else self.width))
            self._start_ticking()
        state = self._run.state(self.width, self._machine_load())
        ascii_only = not self.out.encoding.lower().startswith("utf")
        self._live.update(view(state, ascii_only), refresh=True)

    def _machine_load(self) -> str:
        if self._load is None:
            from tuner.console.machine_load import MachineLoad

            self._load = MachineLoad().text
        if self.clock() - self._measured >= TICK_S:
            self._measured, self._devices = self.clock(), self._load()
        return self._devices

    def _start_ticking(self) -> None:
        if self._tick_s is not None:
            self._ended = threading.Event()
            threading.Thread(
                target=self._tick, args=(self._ended, self._tick_s), name="console", daemon=True
            ).start()

    def _tick(self, ended: threading.Event, seconds: float) -> None:
        while not ended.wait(seconds):
            with self._lock:
                if self._live is not None and not ended.is_set():
                    self._draw()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._draw(now=True)
            self._ended.set()
            self._live.stop()
            self._live = None


def _line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["Console", "answer_lines", "plan_text"]
