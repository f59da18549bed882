"""A text stream that outlives a closed pipe and replaces characters that its encoding lacks."""

import errno
from collections.abc import Callable
from typing import Any, TextIO

from tuner.base.text import encodable, to_devnull


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
            self._try(lambda: self.stream.write(encodable(text, self.encoding)))
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
            to_devnull(self.stream)

    def _is_gone(self, error: OSError | ValueError) -> bool:
        if isinstance(error, OSError):
            return (
                isinstance(error, ConnectionError) or error.errno == errno.EIO
            )  # of a terminal that was closed
        return bool(getattr(self.stream, "closed", False))
