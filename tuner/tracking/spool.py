"""An append-only journal of events on disk, and the thread that delivers them.

The file is the queue: writers append a line, the reader comes back for it later, so memory does not grow
while the reader's counterpart is away, and a killed process leaves every finished line behind.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainables.base.storage import atomic_write

Event = dict[str, Any]


class EventBatch(NamedTuple):
    """Some events in order, the offset behind the last one, and the lines that could not be read."""

    events: list[Event]
    offset: int
    broken: list[str]


class Spool:
    """JSON lines in `path`, the delivered offset in `path` + `.ack`.

    Appends go to the operating system in one write each: they survive the death of the process, not a power
    cut. The mark is replaced atomically and may lag behind the truth, never run ahead of it, so a reader that
    starts again sees some events twice and must treat them as idempotent.

    Args:
        path: the journal; made with its folders if absent. A torn last line is cut off.
        consumer: names where events are delivered. A mark set for another consumer does not count: everything
            is delivered again, to the new one.
    """

    def __init__(self, path: Path, consumer: str = "") -> None:
        self.path = path
        self._mark = path.with_name(path.name + ".ack")
        self._consumer = consumer
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._cut_torn_tail()
        self._acked = self._read_mark()

    @property
    def acked(self) -> int:
        """The offset up to which every event was delivered."""
        return self._acked

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event; safe from any thread, never waits for the reader.

        Raises:
            OSError: if the disk refuses; the journal is left as it was before.
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
                except ValueError as error:
                    broken.append(f"{self.path.name}: unreadable event at byte {offset}: {error}")
                offset += len(line)
        return EventBatch(events, offset, broken)

    def __iter__(self) -> Iterator[Event]:
        """Go through every readable event from the first, delivered or not."""
        offset, page = -1, self.read(0, 1000)
        while page.offset > offset:
            yield from page.events
            offset, page = page.offset, self.read(page.offset, 1000)

    def ack(self, offset: int) -> None:
        """Note that everything before `offset` was delivered."""
        with atomic_write(self._mark, durable=False) as file:
            file.write(json.dumps({"offset": offset, "consumer": self._consumer}).encode())
        self._acked = offset

    @property
    def behind(self) -> bool:
        """Whether events wait; unlike `unsent` it does not read them."""
        return os.stat(self.path).st_size > self._acked

    def unsent(self) -> int:
        """Return the number of events behind the mark."""
        count = 0
        with open(self.path, "rb") as file:
            file.seek(self._acked)
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
        return count

    def close(self) -> None:
        """Release the file; appending afterwards raises OSError."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _cut_torn_tail(self) -> None:
        """Drop what a killed writer left behind the last complete line."""
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
        """Return the stored offset, or 0 wherever it is in doubt: delivering twice does no harm."""
        try:
            mark = json.loads(self._mark.read_text())
            offset, consumer = int(mark["offset"]), mark["consumer"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if consumer != self._consumer or not 0 < offset <= os.fstat(self._file).st_size:
            return 0
        return offset if os.pread(self._file, 1, offset - 1) == b"\n" else 0


class DeliveryThread:
    """A thread that takes a spool's events, in order and in pages, to somewhere that may be away.

    Args:
        spool: where the events come from.
        connect: called before every page and again after every failure; returns True if the receiver knows
            nothing of this spool, which sends it everything from the beginning.
        deliver: takes a page or raises; it may get events again that it already took.
        on_failure: called after a failure, with the reason.
        interval_s: pause between pages while there is nothing to catch up on.
    """

    MAX_BACKOFF_S = 30.0
    PATIENCE = 4
    MAX_PAGE = 2000

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], bool],
        deliver: Callable[[EventBatch], None],
        on_failure: Callable[[Exception], None],
        interval_s: float,
    ) -> None:
        self._spool, self._connect, self._deliver, self._on_failure = spool, connect, deliver, on_failure
        self._interval_s = interval_s
        self._thread = threading.Thread(target=self._loop, name="mlflow-delivery", daemon=True)
        self._wake = threading.Event()
        self._caught_up = threading.Condition()
        self._deadline = math.inf
        self._page_size = self.MAX_PAGE
        self.failures = 0  # since the last success
        self._backoff = 0  # the same, but begun anew when someone waits

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; it dies with the process."""
        self._thread.start()

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered or the receiver has failed `PATIENCE` times in a row, at most `timeout_s`.

        Returns:
            The number of events that are not delivered.
        """
        self._backoff = 0
        self._wake.set()
        if self.alive:
            with self._caught_up:
                self._caught_up.wait_for(
                    lambda: not self._spool.behind or self._backoff >= self.PATIENCE, timeout_s
                )
        return self._spool.unsent()

    def stop(self, timeout_s: float) -> int:
        """Deliver what is left, at most `timeout_s`, and end; return the number of undelivered events."""
        self._deadline = time.monotonic() + timeout_s
        self._backoff = 0
        self._wake.set()
        if self.alive:
            self._thread.join(timeout_s)
        return self._spool.unsent()

    def _loop(self) -> None:
        while True:
            try:
                more = self._step()
            except Exception as error:  # the thread outlives everything that the receiver comes up with
                more = True
                self.failures += 1
                self._page_size = max(50, self._page_size // 2)  # a slow receiver may manage less in time
                self._on_failure(error)
                with self._caught_up:
                    self._backoff += 1
                    self._caught_up.notify_all()
            else:
                self.failures = self._backoff = 0
                self._page_size = min(self.MAX_PAGE, self._page_size * 2)
            left_s = self._deadline - time.monotonic()
            if left_s <= 0 or (left_s < math.inf and not more):
                return
            if self.failures:
                backoff_s = max(self._interval_s, 0.2) * 2 ** min(max(self._backoff - 1, 0), 10)
                self._wake.wait(min(backoff_s, self.MAX_BACKOFF_S, max(left_s / 10, 0.1)))
            elif not more:
                self._wake.wait(self._interval_s)
            self._wake.clear()

    def _step(self) -> bool:
        """Deliver one page; return whether more are waiting."""
        if self._connect():
            self._spool.ack(0)
        page = self._spool.read(self._spool.acked, self._page_size)
        if page.offset > self._spool.acked:
            self._deliver(page)
            self._spool.ack(page.offset)
        more = self._spool.behind
        with self._caught_up:
            self._caught_up.notify_all()
        return more
