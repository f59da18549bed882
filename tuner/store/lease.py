"""Lock on a run that only one driver process holds at a time: on one machine, shared folders and object stores.

Each driver keeps a claim of its own, `lease/<token>.json`, and rewrites it every few seconds with a counter raised.
Only whole-file reads and writes and a listing that shows every finished write are needed, so an object store will do:

1. A driver writes its claim, then lists all claims. It holds the run once it sees no other.
2. Of two that see each other the one with the smaller token stays and the other withdraws and waits. Two that list
   after writing cannot both miss the other, so one of them holds the run and never two.
3. A claim whose process is gone is void: at once where that can be seen (same machine), elsewhere when its file
   has not changed for SILENCE_S of the observer's own time. Clocks of two machines are never compared.
4. A holder that finds its claim gone, or could not renew it in time, ends without writing any more.

`tuner.store.lease_states` has these rules as a transition function, `tuner.store.lease_claims` the files. In a local
folder a file lock comes first, which the kernel releases the moment a driver dies.
"""

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.base.permissions import created, make_folder
from trainables.base.storage import Folder
from tuner.base.errors import UsageError
from tuner.base.signals import Signals
from tuner.base.text import one_line
from tuner.store.lease_claims import BEAT_S, FOLDER, SILENCE_S, Claim, Watch, new_claim, read_claims
from tuner.store.lease_states import Action, LeaseState, Seen, observe, overdue, transition


class Lease:
    """A driver's right to a run.

    Args:
        files: the run folder.
        lock: of a local run folder, the file that is locked; None for an object store.
        clock: seconds, counting while the machine sleeps.

    Attributes:
        problem: why the lease could not be renewed lately, one line; "" if it always could.
    """

    def __init__(
        self,
        files: Folder,
        lock: Path | None,
        *,
        beat_s: float = BEAT_S,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.files, self.lock = files, lock
        self.beat_s, self.silence_s = beat_s, silence_s
        self.clock = clock or (
            lambda: time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        )
        self.problem = ""
        self._claim = new_claim()
        self._writing = threading.Lock()
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self, signals: Signals, say: Callable[[str], None] = lambda text: None) -> Iterator["Lease"]:
        """Hold the run; meanwhile a request to stop and the loss of the lease are passed to `signals`.

        Args:
            say: called once, with one line, if a driver that may be dead has to be waited for.

        Raises:
            UsageError: another driver holds it.
            Interrupted: a signal came while waiting for one that may be dead.
        """
        with self._locked():
            try:
                self._acquire(signals, say)
                keeper = threading.Thread(target=self._keep, args=(signals,), name="lease", daemon=True)
                keeper.start()
                try:
                    yield self
                finally:
                    self._over.set()
                    keeper.join()
            finally:
                self._withdraw()

    def refuse_if_driven(self) -> None:
        """Raise UsageError if a driver on this machine is seen to hold the run; who may be dead is not waited for."""
        for claim in read_claims(self.files):
            if claim.held and claim.is_alive():
                raise self._refusal(claim)

    def note(self, **about: Any) -> None:
        """Add facts about the driver (its stage, its concurrency) to the claim; written with the next renewal."""
        with self._writing:
            self._claim = replace(self._claim, about={**self._claim.about, **about})

    # -- getting it ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self.lock is None:
            yield
            return
        make_folder(self.lock.parent)
        with open(created(self.lock), "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._refusal(next(iter(read_claims(self.files)), None)) from None
            except OSError:
                self.lock = None  # a file system without locks: the claims decide alone
            yield

    def _refusal(self, holder: Claim | None) -> UsageError:
        run = self.files.uri.rstrip("/").rpartition("/")[2]
        who = str(holder) if holder else "another process"
        return UsageError(f"run {run!r} is being driven by {who}; end that with --stop {run}")

    def _acquire(self, signals: Signals, say: Callable[[str], None]) -> None:
        watch, state, highest, announced = Watch(self.silence_s), LeaseState.OUTSIDE, 0, False
        while state is not LeaseState.HOLDER:
            signals.check()
            others = [(claim, watch.is_alive(claim)) for claim in self._others()]
            highest = max([highest, *(claim.generation for claim, _ in others)])
            for claim, alive in others:
                if alive is False:
                    self._remove(claim)
            state, action = transition(state, observe(self._claim, others))
            self._perform(action, highest + 1)
            if state is LeaseState.REFUSED:
                raise self._refusal(next(claim for claim, alive in others if claim.held and alive))
            if state is LeaseState.HOLDER or action in (Action.CLAIM, Action.HOLD):
                continue
            rivals = [claim for claim, alive in others if alive is not False]
            if rivals and not announced and rivals[0].is_alive() is None:
                announced = True
                say(f"{rivals[0]} may still drive this run: watching for {self.silence_s:.0f} s")
            time.sleep(self.beat_s / 4)

    def _perform(self, action: Action, generation: int) -> None:
        match action:
            case Action.CLAIM:
                self._write(generation=generation, held=False)
            case Action.HOLD:
                self._write(generation=generation, held=True)
            case Action.RENEW:
                self._write(generation=generation, beat=self._claim.beat + 1)
            case Action.WITHDRAW:
                self._withdraw()

    def _others(self) -> list[Claim]:
        return [claim for claim in read_claims(self.files) if claim.token != self._claim.token]

    # -- keeping it ------------------------------------------------------------------------------------

    def _keep(self, signals: Signals) -> None:
        """Renew the claim until the lease is given back or lost."""
        renewed = self.clock()
        while not self._over.wait(self.beat_s):
            try:
                seen = self._look(signals)
                state, action = transition(LeaseState.HOLDER, seen)
                with self._writing:
                    self._perform(action, self._claim.generation)
                renewed = self.clock()
            except Exception as error:
                self.problem = f"the run's lease could not be renewed: {one_line(error, limit=200)}"
                # a full or absent disk does not take a file lock away; an object store has nothing else
                seen = overdue(self.clock() - renewed, self.silence_s) if self.lock is None else Seen.NOTHING
                state, _ = transition(LeaseState.HOLDER, seen)
            if state is LeaseState.LOST:
                signals.lose_lease(self._loss(seen))
                return

    def _look(self, signals: Signals) -> Seen:
        """Return what a holder sees in the folder; a request to stop is passed on."""
        names = {f"{FOLDER}/{name}" for name in self.files.names(FOLDER)}
        if self._claim.file not in names:
            return Seen.OWN_CLAIM_GONE
        seen = observe(self._claim, [(claim, None) for claim in self._others()])
        if self._claim.stop_file in names and not seen & Seen.NEWER_HOLDER:
            signals.request_stop(15)
        return seen

    def _loss(self, seen: Seen) -> str:
        if seen & Seen.OWN_CLAIM_GONE:
            return "another driver has taken the run over, or its lease was deleted; this one has ended"
        if seen & Seen.NEWER_HOLDER:
            return "another driver has taken the run over; this one has ended"
        return self.problem

    def _write(self, **changes: Any) -> None:
        self._claim = replace(self._claim, **changes)
        self.files.write(self._claim.file, self._claim.to_json(), durable=False)

    def _withdraw(self) -> None:
        self._claim = replace(self._claim, held=False)
        self._remove(self._claim)

    def _remove(self, claim: Claim) -> None:
        self.files.delete(claim.file)
        self.files.delete(claim.stop_file)
