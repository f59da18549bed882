"""The driver of a launch as its supervisor sees it: started, sent signals, listened to, and cleared away after its end.

The driver leads a process group of its own, which Ray's processes on this machine share. Signals to the launch's group
(Ctrl-C, a batch system) therefore reach the supervisor alone, and the driver gets each of them once. Imports nothing
outside the standard library: a launch starts here.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from tuner.base.driver_report import PR_SET_CHILD_SUBREAPER, VARIABLE, prctl

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S = 1.0  # the end of the driver is seen at once; this is for what it may have left holding the pipe
LOST_RAY_S = 0.1  # for a driver to end after a process of Ray that it needs has died
SAVING_S = 20.0  # the same while it saves after a signal
IMPATIENT_S = 3.0  # for a driver to end after the second Ctrl-C
CLEARING_S = 10.0


class DriverProcess:
    """A driver process and everything below it.

    Args:
        blocked: the signals that it does not receive.

    Attributes:
        facts: what it has told through `tuner.base.driver_report`, the latest value of each name.
        lost: (name, pid) of the processes of Ray that died under it, the first one first.
        ends: {pid: exit status, or minus the signal} of ended children, those of the driver included.
    """

    def __init__(self, command: Sequence[str], blocked: Iterable[int] = ()) -> None:
        self.facts: dict[str, Any] = {}
        self.lost: list[tuple[str, int]] = []
        self.ends: dict[int, int] = {}
        self._watched: dict[int, tuple[str, int]] = {}  # {pidfd: name and pid of a process of Ray}
        self._unread = b""
        self._kill_at = float("inf")
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_inheritable(theirs, True)
        variables = {**os.environ, VARIABLE: f"{theirs} {os.getpid()}"}
        self.pid = os.posix_spawn(command[0], list(command), variables, setpgroup=0, setsigmask=blocked)
        self.alive = True
        os.close(theirs)

    def wait(self, relay: "SignalRelay") -> int:
        """Wait for the driver's end and return its exit status, or minus the signal that ended it."""
        while self.alive:
            self._listen()
            if self.lost and "ended" not in self.facts:
                self.end_within(SAVING_S if relay.asked else LOST_RAY_S)
            if time.monotonic() >= self._kill_at:
                self.send(signal.SIGKILL)
            self._reap()
        self._hear()
        self._watch({})
        os.close(self._pipe)
        return self.ends[self.pid]

    def send(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the driver, or to it and Ray's processes; does nothing once the driver has ended."""
        if self.alive:
            (os.killpg if group else os.kill)(self.pid, number)

    def end_within(self, seconds: float) -> None:
        """Have the driver killed unless it has ended by then; an earlier time that was set stays."""
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)

    def clear_away(self) -> list[int]:
        """Kill what the driver has left behind, and return the processes that would not end.

        On Linux orphans become children of this process (see `SignalRelay`), one generation after the other; elsewhere
        nothing is found. A child keeps its number until it is reaped here, so that no other process is ever hit.
        """
        until, left = time.monotonic() + CLEARING_S, self._children()
        while left and time.monotonic() < until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            left = self._children()
        return left

    def _children(self) -> list[int]:
        if not self._reap():
            return []
        import psutil  # not needed by a launch that ends as it should

        return [child.pid for child in psutil.Process().children()]

    def _reap(self) -> bool:
        """Collect the children that have ended; return whether others are left."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if ended is None:
                return True
            if ended.si_pid == self.pid:
                self.alive = False  # before it is reaped: a signal handler must not send to a number that is free again
            _, status = os.waitpid(ended.si_pid, 0)
            self.ends[ended.si_pid] = os.waitstatus_to_exitcode(status)

    def _listen(self) -> None:
        """Wait until the driver says something or ends, a process of Ray that it needs dies, or it is to be killed."""
        poll = select.poll()
        for descriptor in (self._pipe, *self._watched):
            poll.register(descriptor, select.POLLIN)
        patience_s = min(POLL_S, max(0.0, self._kill_at - time.monotonic()))
        ready = {descriptor for descriptor, _ in poll.poll(patience_s * 1000)}
        closed = self._pipe in ready and self._hear()
        for descriptor in (
            ready & self._watched.keys()
        ):  # after the pipe: who shuts Ray down has said so before
            found = self._watched.pop(descriptor)
            os.close(descriptor)
            if not main_thread_has_ended(self.pid):  # else it took Ray's processes along, not they the driver
                self.lost.append(found)
        if closed:
            time.sleep(0.01)  # its last moments, between its files' end and its own

    def _hear(self) -> bool:
        """Take in what the driver has told; return whether it has closed the pipe."""
        while True:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                told = json.loads(line)
                self.facts |= told
                if "ray" in told:
                    self._watch(told["ray"])

    def _watch(self, processes: dict[str, int]) -> None:
        """Watch these processes of Ray in place of those before."""
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched = {}
        if sys.platform == "linux":
            for name, pid in processes.items():
                try:
                    self._watched[os.pidfd_open(pid)] = (name, pid)
                except ProcessLookupError:
                    self.lost.append((name, pid))


def main_thread_has_ended(pid: int) -> bool:
    """Return whether a process of this machine is dead or dying; false where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return False


class SignalRelay:
    """The signals of a launch: each is passed on to its driver once; the driver's orphans become children of this one.

    Attributes:
        driver: the one that runs now, or ran last.
        asked: the first signal that asked the launch to end; 0 if none did.
    """

    def __init__(self) -> None:
        self.driver: DriverProcess | None = None
        self.asked = 0
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in ENDING_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
                signal.signal(number, self._pass_on)
        if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._suspend)
        # the driver is in the terminal's background: it must not be stopped as it writes (`stty tostop`) or reads
        for number in (signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)

    def start(self, command: Sequence[str]) -> DriverProcess:
        """Start a driver; it gets the signals that come meanwhile, too."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        self.driver = DriverProcess(command, before)
        if self.asked:
            self.driver.send(self.asked)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self.driver

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        again = self.asked != 0
        self.asked = self.asked or number
        if self.driver is not None:
            self.driver.send(number)
            if again and number == signal.SIGINT:
                self.driver.end_within(IMPATIENT_S)  # it may hang where Python sees no signal

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stop the driver and Ray, then this process; after `fg` or `bg` let all go on."""
        if self.driver is not None:
            self.driver.send(signal.SIGSTOP, group=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        if self.driver is not None:
            self.driver.send(signal.SIGCONT, group=True)
