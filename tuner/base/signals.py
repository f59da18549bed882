"""SIGINT, SIGTERM and other reasons to end, noted and looked at: a study ends at a moment of its own choosing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuner.base.errors import Interrupted, LeaseLost


class Signals:
    """A flag that every wait looks at; a second SIGINT ends the process at once.

    `ask` and `lose` may be called from any thread.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._lost = ""

    def install(self) -> None:
        """Take both signals; outside the main thread they stay as they are."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._note)

    @contextmanager
    def installed(self) -> Iterator["Signals"]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        try:
            yield self
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.ask(number)

    def ask(self, number: int) -> None:
        """Ask the study to save and end as if the signal had come."""
        self.exit_code = self.exit_code or 128 + number

    def lose(self, reason: str) -> None:
        """Have the study end without writing any more: the run is no longer this driver's."""
        self._lost = self._lost or reason

    def asked(self) -> bool:
        return self.exit_code != 0 or self._lost != ""

    def check(self) -> None:
        """Raise LeaseLost or Interrupted if there is a reason to end."""
        if self._lost:
            raise LeaseLost(self._lost)
        if self.exit_code:
            raise Interrupted(self.exit_code)
