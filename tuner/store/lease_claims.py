"""Lock files of drivers (`lease/<token>.json` in the run folder), and whether the driver of each is still alive."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables.base.errors import InputError
from trainables.base.storage import Folder
from tuner.base.checksums import Damaged, checked_file, file_with_checksum
from tuner.base.text import as_line
from tuner.base.typed_json import Mismatch, read

BEAT_S = 3.0  #: between two renewals of a claim
SILENCE_S = 60.0  #: without a renewal, after which a driver on another machine is taken for dead
FOLDER = "lease"


@dataclass(frozen=True)
class Claim:
    """What a driver writes about itself into the run folder.

    Attributes:
        token: random; names the driver's files.
        machine: the kernel's boot and process namespace: where a process id means something.
        start: when the process began, in the kernel's count; tells it from a later one with its number.
        held: False while the driver is still trying.
        generation: above that of every claim it has seen; a newer holder has the higher one.
        beat: counts up while the driver lives.
        since: wall-clock time of its start, UTC; to be shown, never compared.
        about: the driver's stage and concurrency.
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
        """Return whether the driver's process, if it is alive, can be seen from this one."""
        return self.machine == machine()

    @property
    def file(self) -> str:
        """Return the claim's file, relative to the run folder."""
        return f"{FOLDER}/{self.token}.json"

    @property
    def stop_file(self) -> str:
        """Return the file that asks this driver, and none after it, to save and end."""
        return f"{FOLDER}/{self.token}.stop"

    def is_alive(self) -> bool | None:
        """Return whether the driver's process is alive; None for one of another machine."""
        return process_start(self.pid) == self.start != "" if self.is_here else None

    def to_json(self) -> bytes:
        """Return the content of the claim's file."""
        return file_with_checksum({k: v for k, v in asdict(self).items() if k not in ("token", "raw")})

    def __str__(self) -> str:
        if not self.pid:
            return f"an unknown driver ({self.file} cannot be read)"
        return f"process {self.pid} on {as_line(self.host)}"


def new_claim() -> Claim:
    """Return a claim of this process, under a new token, that does not hold the run yet."""
    return Claim(
        secrets.token_hex(8),
        socket.gethostname(),
        os.getpid(),
        machine(),
        process_start(os.getpid()),
        held=False,
        since=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    )


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
    return "" if fields[0] in "ZX" else fields[19]  # a zombie holds no files and no locks any more


class Watch:
    """Tells a living driver on another machine from a dead one by whether its claim changes.

    Args:
        clock: seconds; must not count time during which this process was suspended.
    """

    def __init__(self, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.silence_s, self.clock = silence_s, clock
        self._seen: dict[str, tuple[bytes, float, bool]] = {}  # content, since when, whether it ever changed

    def is_alive(self, claim: Claim) -> bool | None:
        """Return True once the claim has changed, False after `silence_s` without a change, None in between."""
        known = claim.is_alive()
        if known is not None:
            return known
        now = self.clock()
        raw, since, changed = self._seen.get(claim.token, (claim.raw, now, False))
        if claim.raw != raw:
            raw, since, changed = claim.raw, now, True
        self._seen[claim.token] = (raw, since, changed)
        if now - since >= self.silence_s:
            return False
        return True if changed else None


def read_claims(files: Folder) -> list[Claim]:
    """Return the claims on a run, the newest holder first; reads only. One that may not be read is of nobody known.

    Raises:
        OSError: the storage does not answer, or the folder may not be listed.
    """
    claims = []
    for name in files.names(FOLDER):
        token, dot, kind = name.partition(".")
        if not token or (dot + kind) != ".json":
            continue
        try:
            raw = files.read(f"{FOLDER}/{name}")
        except FileNotFoundError:  # withdrawn since it was listed
            continue
        except PermissionError:
            claims.append(Claim(token, raw=_changes(files, name)))
            continue
        try:
            claim = read(Claim, {**checked_file(raw), "token": token}, "")
            claims.append(replace(claim, raw=raw))
        except (Damaged, Mismatch):  # of another version, or damaged: only its changes can be judged
            claims.append(Claim(token, raw=raw))
    return sorted(claims, key=lambda claim: (not claim.held, -claim.generation, claim.token))


def _changes(files: Folder, name: str) -> bytes:
    """Return what changes with every renewal of a claim that may not be read: each is a new file."""
    try:
        state = files.path(f"{FOLDER}/{name}").stat()
    except (OSError, InputError):  # withdrawn, or in an object store
        return b""
    return f"{state.st_ino} {state.st_mtime_ns}".encode()
