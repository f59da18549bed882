"""A thread that delivers the events of a spool, with increasing pauses while the receiver does not answer."""

import math
import threading
import time
from collections.abc import Callable

from tuner.tracking.spool import EventBatch, Spool


class DeliveryThread:
    """Delivers a spool's events in order and in batches to a receiver that may be away.

    Args:
        spool: the events.
        connect: called before every batch and again after every failure; returns True if the receiver has
            nothing of this spool, and then gets everything from the beginning.
        deliver: delivers a batch or raises; it may get events again that it has already delivered.
        on_failure: called after a failure, with the reason.
        interval_s: pause between batches while fewer events wait than a batch takes.

    Attributes:
        failures: deliveries that failed since the last successful one.
    """

    MAX_BACKOFF_S = 30.0
    MAX_BATCH = 2000
    GIVE_UP_FLUSH_AFTER = 4  #: failures in a row

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
        self._batch_size = self.MAX_BATCH
        self.failures = 0
        self._backoff = 0  # failures as the pauses count them: from 0 again when `flush` or `stop` is called

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        self._thread.start()

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered or `GIVE_UP_FLUSH_AFTER` deliveries in a row have failed, at most `timeout_s`.

        Returns:
            The number of events that are not delivered.
        """
        self._backoff = 0
        self._wake.set()
        if self.alive:
            with self._caught_up:
                self._caught_up.wait_for(
                    lambda: not self._spool.behind or self._backoff >= self.GIVE_UP_FLUSH_AFTER, timeout_s
                )
        return self._spool.unsent()

    def stop(self, timeout_s: float) -> int:
        """Deliver the rest, for at most `timeout_s`, and end the thread; return the number of undelivered events."""
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
            except Exception as error:  # whatever the receiver raises, the thread goes on
                more = True
                self.failures += 1
                self._batch_size = max(
                    50, self._batch_size // 2
                )  # a slow receiver may manage a smaller batch in time
                self._on_failure(error)
                with self._caught_up:
                    self._backoff += 1
                    self._caught_up.notify_all()
            else:
                self.failures = self._backoff = 0
                self._batch_size = min(self.MAX_BATCH, self._batch_size * 2)
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
        """Deliver one batch; return whether more events wait."""
        if self._connect():
            self._spool.ack(0)
        batch = self._spool.read(self._spool.acked, self._batch_size)
        if batch.offset > self._spool.acked:
            self._deliver(batch)
            self._spool.ack(batch.offset)
        more = self._spool.behind
        with self._caught_up:
            self._caught_up.notify_all()
        return more
