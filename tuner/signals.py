"""SIGINT and SIGTERM, noted and looked at: a study ends at a moment of its own choosing, within seconds."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuner.errors import Interrupted


class Signals:
    """SIGINT and SIGTERM as a flag that every wait looks at; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.exit_code = 0

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
        self.exit_code = self.exit_code or 128 + number

    def asked(self) -> bool:
        return self.exit_code != 0

    def check(self) -> None:
        if self.exit_code:
            raise Interrupted(self.exit_code)
