"""A queue of events in a file, one JSON line each, with a mark of what has been delivered.

Memory does not grow while the receiver is away, and a killed process leaves every finished line behind.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainables.base.permissions import created, make_folder
from trainables.base.storage import atomic_write, read_file

Event = dict[str, Any]


class EventBatch(NamedTuple):
    """Events in order, the file offset behind the last one, and a message for each unreadable line."""

    events: list[Event]
    offset: int
    broken: list[str]


class Spool:
    """JSON lines in `path`, the delivered offset in `path` + `.ack`.

    Each event is one write to the operating system: it survives the death of the process, not a power cut. The
    mark is set after a delivery and never before, so a reader that starts again may see events twice; delivering
    an event a second time must change nothing.

    Args:
        path: the file; created with its folders if missing. An unfinished last line is cut off.
        consumer: names the receiver. A mark set for another receiver does not count: the new one gets everything.
    """

    def __init__(self, path: Path, consumer: str = "") -> None:
        self.path = path
        self._mark = path.with_name(path.name + ".ack")
        self._consumer = consumer
        self._lock = threading.Lock()
        make_folder(path.parent)
        self._file = os.open(created(path, private=True), os.O_RDWR | os.O_APPEND)
        self._cut_unfinished_line()
        self._acked = self._read_mark()

    @property
    def acked(self) -> int:
        """The offset up to which every event was delivered."""
        return self._acked

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event; safe from any thread, never waits for the reader.

        Raises:
            OSError: if the disk refuses; the file is left as it was before.
            TypeError: if the event is not JSON.
        """
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            written = os.write(self._file, line)
            if written != len(line):  # a full disk takes half a line; the next one must not be glued to it
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(f"{self.path}: the disk took {written} of {len(line)} bytes")

    def read(self, offset: int, max_events: int, max_bytes: int = 4_000_000) -> EventBatch:
        """Return the events from `offset` on, at least one if there is one, and at most `max_events`."""
        events: list[Event] = []
        broken: list[str] = []
        begin = offset
        with open(self.path, "rb") as lines:
            lines.seek(offset)
            while len(events) < max_events and offset - begin < max_bytes:
                line = lines.readline()
                if not line.endswith(b"\n"):  # the end, or a line that is being written
                    break
                try:
                    event = json.loads(line)
                    if not isinstance(event, dict):
                        raise ValueError("not an object")
                    events.append(event)
                except (ValueError, RecursionError) as error:
                    broken.append(f"{self.path.name}: unreadable event at byte {offset}: {error}")
                offset += len(line)
        return EventBatch(events, offset, broken)

    def __iter__(self) -> Iterator[Event]:
        """Iterate over every readable event, delivered or not."""
        offset, page = -1, self.read(0, 1000)
        while page.offset > offset:
            yield from page.events
            offset, page = page.offset, self.read(page.offset, 1000)

    def ack(self, offset: int) -> None:
        """Set the mark: everything before `offset` was delivered."""
        with atomic_write(self._mark, durable=False) as file:
            file.write(json.dumps({"offset": offset, "consumer": self._consumer}).encode())
        self._acked = offset

    @property
    def behind(self) -> bool:
        """Whether there are undelivered events; unlike `unsent` it does not read the file."""
        return os.stat(self.path).st_size > self._acked

    def unsent(self) -> int:
        """Return the number of undelivered events."""
        count = 0
        with open(self.path, "rb") as file:
            file.seek(self._acked)
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
        return count

    def close(self) -> None:
        """Close the file; appending afterwards raises OSError."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _cut_unfinished_line(self) -> None:
        """Cut off an unfinished last line, which a killed process leaves."""
        end = os.fstat(self._file).st_size
        keep = end
        while keep > 0:
            begin = max(0, keep - 65536)
            newline = os.pread(self._file, keep - begin, begin).rfind(b"\n")
            if newline >= 0:
                keep = begin + newline + 1
                break
            keep = begin
        if keep != end:
            os.ftruncate(self._file, keep)

    def _read_mark(self) -> int:
        """Return the stored offset, or 0 if it is missing or invalid: then everything is delivered again."""
        try:
            mark = json.loads(read_file(self._mark))
            offset, consumer = int(mark["offset"]), mark["consumer"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0
        if consumer != self._consumer or not 0 < offset <= os.fstat(self._file).st_size:
            return 0
        return offset if os.pread(self._file, 1, offset - 1) == b"\n" else 0
