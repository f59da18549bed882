"""One driver per run: a lease in the run folder that holds on one machine, on shared folders and on object stores.

Each driver keeps a claim of its own, `lease/<token>.json`, and rewrites it every few seconds with a counter raised.
Only whole-file reads and writes and a listing that shows every finished write are needed, so an object store will do:

1. A driver writes its claim, then lists all claims. It holds the run once it sees no other.
2. Of two that see each other the smaller token stays and the other withdraws and looks on. Two that list after
   writing cannot both miss the other, so one of them holds the run and never two.
3. A claim whose process is gone is void: at once where that can be seen (same machine), elsewhere when its file
   has not changed for SILENCE_S of the observer's own time. Clocks of two machines are never compared.
4. A holder that finds its claim gone, or could not renew it in time, ends without writing any more.

In a local folder a file lock comes first, which the kernel frees the moment a driver dies.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables.base.storage import Folder
from tuner.base.errors import UsageError
from tuner.base.signals import Signals

BEAT_S = 3.0
SILENCE_S = 60.0
FOLDER = "lease"


@dataclass(frozen=True)
class Claim:
    """What a driver says of itself.

    Attributes:
        token: random; names the driver's files.
        machine: the kernel's boot and process namespace: where a process id means something.
        start: when the process began, in the kernel's count; tells it from a later one with its number.
        held: False while the driver is still trying.
        generation: above that of every claim it has seen; a newer holder has the higher one.
        beat: counts up while the driver lives.
        since: wall-clock time of its start, UTC; to be shown, never compared.
        about: what else it says: stage, concurrency.
        raw: the file's content; a change is a sign of life.
    """

    token: str
    host: str = "an unknown host"
    pid: int = 0
    machine: str = ""
    start: str = ""
    held: bool = True
    generation: int = 0
    beat: int = 0
    since: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def is_here(self) -> bool:
        """Return whether the driver's process, if it lives, can be seen from this one."""
        return self.machine == machine()

    def lives(self) -> bool | None:
        """Return whether the driver's process lives; None for one of another machine."""
        return process_start(self.pid) == self.start != "" if self.is_here else None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def machine() -> str:
    """Return what identifies this boot of this machine and the namespace of its process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def process_start(pid: int) -> str:
    """Return when a living process began, in the kernel's own count; "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        import psutil  # not Linux

        return repr(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie has let go of everything


class Watch:
    """Tells a living driver elsewhere from a dead one by whether its claim changes.

    Args:
        clock: seconds; must not count time during which this process was suspended.
    """

    def __init__(self, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.silence_s, self.clock = silence_s, clock
        self._seen: dict[str, tuple[bytes, float, bool]] = {}

    def lives(self, claim: Claim) -> bool | None:
        """Return True once the claim has changed, False after a whole silence, None while it cannot be told."""
        known = claim.lives()
        if known is not None:
            return known
        now = self.clock()
        raw, since, moved = self._seen.get(claim.token, (claim.raw, now, False))
        if claim.raw != raw:
            raw, since, moved = claim.raw, now, True
        self._seen[claim.token] = (raw, since, moved)
        if now - since >= self.silence_s:
            return False
        return True if moved else None


def read_claims(files: Folder) -> list[Claim]:
    """Return the claims on a run, the newest holder first; reads only."""
    found = []
    for name in files.names(FOLDER):
        token, dot, kind = name.partition(".")
        if not token or (dot + kind) != ".json":
            continue
        try:
            raw = files.read(f"{FOLDER}/{name}")
        except FileNotFoundError:  # withdrawn since it was listed
            continue
        try:
            found.append(Claim(**{**json.loads(raw), "token": token, "raw": raw}))
        except (ValueError, TypeError):  # of another version, or damaged: only its changes can be judged
            found.append(Claim(token, raw=raw))
    return sorted(found, key=lambda c: (not c.held, -c.generation, c.token))


class Lease:
    """A driver's right to a run.

    Args:
        files: the run folder.
        lock: of a local run folder, the file that is locked; None for an object store.
        clock: seconds, counting while the machine sleeps.
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
        self._claim = Claim(
            secrets.token_hex(8),
            socket.gethostname(),
            os.getpid(),
            machine(),
            process_start(os.getpid()),
            held=False,
            since=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        )
        self._writing = threading.Lock()
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self, signals: Signals, say: Callable[[str], None] = lambda text: None) -> Iterator["Lease"]:
        """Hold the run; meanwhile a request to stop and the loss of the lease are passed to `signals`.

        Args:
            say: is told once if a driver that may be dead has to be waited for.

        Raises:
            UsageError: another driver holds it.
            Interrupted: a signal came while waiting for one that may be dead.
        """
        with self._locked():
            try:
                self._acquire(signals, say)
                beating = threading.Thread(target=self._beat_on, args=(signals,), name="lease", daemon=True)
                beating.start()
                try:
                    yield self
                finally:
                    self._over.set()
                    beating.join()
            finally:
                self._withdraw()

    def note(self, **about: Any) -> None:
        """Say something of the driver to whoever asks how the run stands; told with the next beat."""
        with self._writing:
            self._claim = replace(self._claim, about={**self._claim.about, **about})

    # -- getting it ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self.lock is None:
            yield
            return
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with open(self.lock, "a") as file:
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
        watch, out, said = Watch(self.silence_s), False, False
        while True:
            signals.check()
            rivals = self._rivals(watch)
            for rival in rivals:
                if rival.held and watch.lives(rival):
                    raise self._refusal(rival)
            if out and not rivals:
                self._put(held=True)
                if not any(claim.held for claim in self._others()):
                    return
                self._withdraw()  # one that had been taken for dead has come back in between
                out = False
            elif out and any(not rival.held and rival.token < self._claim.token for rival in rivals):
                self._withdraw()
                out = False
            elif out:
                self._put(beat=self._claim.beat + 1)
            elif not any(rival.held or rival.token < self._claim.token for rival in rivals):
                self._put(held=False)
                out = True
                continue  # and look again, now that the others can see us
            if rivals and not said and rivals[0].lives() is None:
                said = True
                say(f"{rivals[0]} may still drive this run: watching for {self.silence_s:.0f} s")
            time.sleep(self.beat_s / 4)

    def _rivals(self, watch: Watch) -> list[Claim]:
        """Return the other claims that may be alive, and remove those of the dead."""
        others = self._others()
        top = max((claim.generation for claim in others), default=0)
        if top >= self._claim.generation:
            self._claim = replace(self._claim, generation=top + 1)
        left = []
        for claim in others:
            if watch.lives(claim) is False:
                self._remove(claim.token)
            else:
                left.append(claim)
        return left

    def _others(self) -> list[Claim]:
        return [claim for claim in read_claims(self.files) if claim.token != self._claim.token]

    # -- keeping it ------------------------------------------------------------------------------------

    def _beat_on(self, signals: Signals) -> None:
        renewed = self.clock()
        while not self._over.wait(self.beat_s):
            try:
                reason = self._beat(signals)
                if not reason:
                    renewed = self.clock()
            except Exception as error:
                # a full or absent disk does not take a file lock away; an object store has nothing else
                self.problem = f"the run's lease could not be renewed: {' '.join(str(error).split())[:200]}"
                late = self.lock is None and self.clock() - renewed > 0.75 * self.silence_s
                reason = self.problem if late else ""
            if reason:
                signals.lose_lease(reason)
                return

    def _beat(self, signals: Signals) -> str:
        """Look for requests and usurpers, and renew the claim; return why the lease is lost, or ""."""
        names = self.files.names(FOLDER)
        if f"{self._claim.token}.json" not in names:
            return "another driver has taken the run over, or its lease was deleted; this one has ended"
        if any(claim.held and claim.generation > self._claim.generation for claim in self._others()):
            return "another driver has taken the run over; this one has ended"
        if stop_name(self._claim).rpartition("/")[2] in names:
            signals.request_stop(15)
        with self._writing:
            self._put(beat=self._claim.beat + 1)
        return ""

    def _put(self, **changes: Any) -> None:
        self._claim = replace(self._claim, **changes)
        self._write()

    def _write(self) -> None:
        content = {k: v for k, v in asdict(self._claim).items() if k not in ("token", "raw")}
        self.files.write(f"{FOLDER}/{self._claim.token}.json", json.dumps(content).encode(), durable=False)

    def _withdraw(self) -> None:
        self._claim = replace(self._claim, held=False)
        self._remove(self._claim.token)

    def _remove(self, token: str) -> None:
        self.files.delete(f"{FOLDER}/{token}.json")
        self.files.delete(f"{FOLDER}/{token}.stop")


def stop_name(claim: Claim) -> str:
    """Return the file that asks one driver, and none after it, to save and end."""
    return f"{FOLDER}/{claim.token}.stop"
