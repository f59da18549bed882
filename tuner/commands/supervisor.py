"""Runs the driver of a study as a child process: says how it died if it could not itself, and restarts it if asked to.

`launch.py` calls this before anything else, so that only light modules are imported.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.base.driver_process import ENDING_SIGNALS, DriverProcess, SignalRelay
from tuner.base.program import program_name

#: commands that answer without driving a study here; `tests/unit/tuner/commands/test_supervisor.py` has the same
#: list from the declarations of the options
ANSWERED_HERE = frozenset(
    (
        "--list",
        "--status",
        "--why",
        "--stop",
        "--compare",
        "--watch",
        "--export-tables",
        "--evaluate",
        "--export",
        "--dry-run",
        "--submit",
        "--version",
        "--new",
        "--check-data",
        "--help",
        "-h",
    )
)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0


def drives_a_study(arguments: Sequence[str]) -> bool:
    """Return whether a command line of launch.py starts or resumes a study in this process."""
    return not ANSWERED_HERE.intersection(word.partition("=")[0] for word in arguments)


@dataclass(frozen=True)
class Ending:
    """How a driver process ended.

    Attributes:
        pid: its number.
        status: its exit status, or minus the signal that ended it.
        announced: the exit status that it said it would end with; None if it died before.
        halted: it announced that the study cannot go on for now: a full disk, an error that nobody expected.
        asked: the signal that asked the launch to end; 0 if none did.
        lost: (name, pid, its status if that is known) of the process of Ray whose death took the driver along.
    """

    pid: int
    status: int
    announced: int | None = None
    halted: bool = False
    asked: int = 0
    lost: tuple[str, int, int | None] | None = None

    @property
    def code(self) -> int:
        """Return the exit status of the launch."""
        if self.announced is not None:
            return self.announced
        number = self.asked or (-self.status if -self.status in ENDING_SIGNALS else 0)
        return 128 + number if number else 1

    @property
    def words(self) -> str:
        """Return what died and how; "" if the driver has said itself how it ended."""
        if self.announced is not None:
            return ""
        if self.asked and self.status == -self.asked:
            return f"ended by {signal.Signals(self.asked).name}"
        what = f"the driver (process {self.pid}) {how(self.status)}"
        if self.lost is not None:
            name, pid, status = self.lost
            what = f"Ray's {name} (process {pid}) {'died' if status is None else how(status)}"
        return f"{what} after {signal.Signals(self.asked).name}, before all was saved" if self.asked else what

    @property
    def may_restart(self) -> bool:
        """Return whether the run may go on by itself: it was not asked to end and has no result of its own."""
        return not self.asked and self.code == 1 and (self.announced is None or self.halted)


def how(status: int) -> str:
    """Return an exit status (minus the signal) as a verb: "was killed by SIGKILL", "ended with exit status 1"."""
    if status >= 0:
        return f"ended with exit status {status} without a word"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return f"was killed by {name} (kill -9, or the machine ran out of memory)"
    return f"was killed by {name}" if -status in ENDING_SIGNALS else f"crashed with {name}"


def pause_s(restart: int) -> float:
    """Return the seconds before a restart, counted from 1: 2, 4, 8, ... and five minutes at most."""
    return min(FIRST_PAUSE_S * 2.0 ** (restart - 1), LONGEST_PAUSE_S)


@dataclass
class Supervisor:
    """Runs drivers one after the other until one ends by itself or may not be restarted.

    Attributes:
        python: what starts launch.py: the interpreter, its options, the file.
        restarts: how many there have been, over the whole launch.
    """

    python: Sequence[str]
    restarts: int = 0
    relay: SignalRelay = field(default_factory=SignalRelay)

    def run(self, arguments: Sequence[str]) -> int:
        """Drive a study and return the exit status of the launch."""
        words, allowed = arguments, 0
        while True:
            driver = self.relay.start([*self.python, *words])
            status = driver.wait(self.relay)
            for pid in driver.clear_away():
                say(f"process {pid} of this launch does not end; it waits for a disk or a device")
            facts = driver.facts
            ending = ending_of(driver, status, self.relay.asked)
            begun = not ending.words or record(facts, ending)
            allowed = allowed or facts.get("restart", 0)
            if ending.may_restart and begun and self.restarts < allowed:
                words = facts["resume_arguments"]
                self._pause(ending, facts, allowed)
                if not self.relay.asked:
                    continue
                say(
                    f"ended by {signal.Signals(self.relay.asked).name}; continue with: {facts['resume_command']}"
                )
                return 128 + self.relay.asked
            if ending.words:
                say(last_words(ending, facts, begun))
            return ending.code

    def _pause(self, ending: Ending, facts: Mapping[str, Any], allowed: int) -> None:
        self.restarts += 1
        seconds = pause_s(self.restarts)
        why = f"{last_words(ending, facts, begun=True, go_on=False)}; " if ending.words else ""
        say(f"{why}resuming in {seconds:.0f} s (restart {self.restarts} of {allowed})")
        until = time.monotonic() + seconds
        announce_restart(facts, self.restarts, allowed, seconds)
        while not self.relay.asked and time.monotonic() < until:
            time.sleep(0.1)


def ending_of(driver: DriverProcess, status: int, asked: int) -> Ending:
    """Return how a driver ended, from what it has told and what was seen of it."""
    lost = None
    if driver.lost and (status >= 0 or status == -signal.SIGKILL):  # Ray's code has ended it, or we have
        name, pid = driver.lost[0]
        lost = (name, pid, driver.ends.get(pid))
    announced, halted = driver.facts.get("ended"), driver.facts.get("halted", False)
    return Ending(driver.pid, status, announced, halted, asked, lost)


def last_words(ending: Ending, facts: Mapping[str, Any], begun: bool, go_on: bool = True) -> str:
    """Return the line that the driver could not write: what died, where the logs are, how to go on."""
    if not begun:
        return f"{ending.words}; the run had not begun and nothing was stored"
    logs = facts["log"]
    if "ray_logs" in facts:
        logs += f" and {facts['ray_logs']} (which a launch over an hour later removes)"
    then = f"; continue with: {facts['resume_command']}" if go_on else ""
    return f"{ending.words}; logs: {logs}{then}"


def record(facts: Mapping[str, Any], ending: Ending) -> bool:
    """Store how a driver without words ended in its run's `plan.json`; return whether the run is there at all.

    What the driver has stored itself stays, and so does a run that another driver holds by now. Holding the lease
    removes that of the dead one.
    """
    from tuner.base.errors import UsageError
    from tuner.base.signals import Signals
    from tuner.store.run_folder import RunFolder, now

    if "run" not in facts:
        return False
    folder = RunFolder(facts["storage"], facts["run"])
    state, reason = ("interrupted", "") if ending.code > 128 else ("failed", ending.words)
    try:
        folder.read()
    except UsageError:
        return False
    try:
        with folder.lease().held(Signals()):
            if folder.entries().get("ended") is None:
                folder.update(ended={"state": state, "reason": reason, "at": now()})
            folder.log("driver", ending.words)
    except (UsageError, OSError) as error:
        say(f"how it ended could not be stored: {error}")
    return True


def announce_restart(facts: Mapping[str, Any], number: int, allowed: int, seconds: float) -> None:
    """Store for --status that the run goes on by itself."""
    from tuner.base.errors import UsageError
    from tuner.store.restart import announce
    from tuner.store.run_folder import RunFolder

    try:
        announce(RunFolder(facts["storage"], facts["run"]), number, allowed, seconds)
    except (UsageError, OSError) as error:
        say(f"that it restarts could not be stored: {error}")


def say(text: str) -> None:
    """Write a line to the terminal, whose cursor a driver that was killed may have left hidden."""
    with contextlib.suppress(OSError):  # nobody is left who could read it
        show = "\r\x1b[?25h" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{show}{program_name()}: {text}\n")
        sys.stderr.flush()


def supervise(arguments: Sequence[str]) -> int:
    """Run a command line of launch.py in a driver process and return the exit status of the launch."""
    python = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]
    return Supervisor(python).run(arguments)
