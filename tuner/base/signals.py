"""Signals that end a study, and a lost lease, recorded when they occur; the driver checks where it can stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuner.base import driver_report
from tuner.base.errors import Interrupted, LeaseLost

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Records a request to stop; every wait of the driver checks it.

    A second SIGINT ends the process at once; in one that is the user's own, a notebook or a script, it raises
    KeyboardInterrupt.

    `request_stop` and `lose_lease` may be called from any thread.

    Attributes:
        exit_code: 130 after SIGINT, 143 after SIGTERM or a stop request, 129 after SIGHUP; 0 if none came.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._lost = ""

    def install(self) -> None:
        """Install the handlers; does nothing outside the main thread. SIGHUP stays ignored under nohup."""
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    @contextmanager
    def installed(self) -> Iterator["Signals"]:
        """Install the handlers, and restore the earlier ones at the end."""
        before = {number: signal.getsignal(number) for number in HANDLED}
        self.install()
        try:
            yield self
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code and number == signal.SIGINT:
            if not driver_report.supervised():
                raise KeyboardInterrupt  # the process is the user's own: a notebook, a script
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.request_stop(number)

    def request_stop(self, number: int) -> None:
        """Have the study save and end, as if the signal `number` had been received."""
        self.exit_code = self.exit_code or 128 + number

    def lose_lease(self, reason: str) -> None:
        """Have the study end without writing any more: this driver no longer holds the run."""
        self._lost = self._lost or reason

    def stop_requested(self) -> bool:
        """Return whether `check` would raise."""
        return self.exit_code != 0 or self._lost != ""

    def check(self) -> None:
        """Raise LeaseLost or Interrupted if the study has to end."""
        if self._lost:
            raise LeaseLost(self._lost)
        if self.exit_code:
            raise Interrupted(self.exit_code)
