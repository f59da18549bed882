"""A text stream that outlives a closed pipe and replaces characters that its encoding lacks."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

_ASCII = str.maketrans({"±": "+/-", "ε": "eps", "−": "-", "…": "...", "·": "-", "×": "x"})


class SafeStream:
    """Wraps a text stream; writing never fails for a reader that has gone or a character that cannot be encoded.

    Attributes:
        closed_by_reader: the pipe is closed; whatever is written from then on is dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.closed_by_reader = False

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return bool(self.stream.isatty())
        except (AttributeError, ValueError):
            return False

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, text: str) -> int:
        if not self.closed_by_reader:
            try:
                text.encode(self.encoding)
            except (UnicodeEncodeError, LookupError):
                text = text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
            self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        if not self.closed_by_reader:
            self._try(self.stream.flush)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:
            if not self._is_gone(error):
                raise
            self.closed_by_reader = True
            self._redirect_to_devnull()

    def _is_gone(self, error: OSError | ValueError) -> bool:
        if isinstance(error, OSError):
            return (
                isinstance(error, ConnectionError) or error.errno == errno.EIO
            )  # of a terminal that was closed
        return bool(getattr(self.stream, "closed", False))

    def _redirect_to_devnull(self) -> None:
        """Point a standard stream at /dev/null: else Python fails once more when it flushes at exit."""
        if self.stream not in (sys.stdout, sys.stderr):
            return
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            return
