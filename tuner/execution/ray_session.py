"""The folder of a Ray that is started on this machine for one launch, which no other user may enter.

Ray itself makes its session folder, with sockets, logs and spilled objects, readable and writable for everybody.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import ray

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.private_files import others_may_swap

PREFIX = "rtune-"
# the longest path of a socket is 107 bytes; Ray's own part of it, for a process number of seven digits
LONGEST_BASE = (
    107
    - len("/session_2026-11-29_10-16-20_147812_1234567/sockets/plasma_store")
    - len(f"/{PREFIX}12345678/r")
)
KEPT_S = 3600.0  # how long the folder of a killed launch is kept, for its logs


def base_folder() -> Path:
    """Return where the session folder is made: RAY_TMPDIR, else the system's temporary folder, else /tmp.

    Raises:
        UsageError: RAY_TMPDIR is too long for a socket's path, or others could swap what is in it.
    """
    given = environment.variable("RAY_TMPDIR")
    if given:
        base = Path(given).absolute()
        problem = _problem(base)
        if problem:
            raise UsageError(f"RAY_TMPDIR={given} {problem}; name a short folder of your own, or unset it")
        return base
    base = Path(tempfile.gettempdir())
    return base if not _problem(base) else Path("/tmp")


def _problem(base: Path) -> str:
    if not base.is_dir():
        return "is not a folder"
    if len(os.fsencode(base)) > LONGEST_BASE:
        return f"has over {LONGEST_BASE} bytes, too many for the path of a socket"
    swappable = others_may_swap(base)
    return f"is not safe: other users may rename what is in {swappable}" if swappable else ""


def make_session_folder() -> Path:
    """Return a new folder for Ray's files, in one that only this user may enter; it is removed when Python ends.

    The folders of launches that were killed over an hour ago are removed.
    """
    base = base_folder()
    _remove_old(base)
    private = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 700
    lock = os.open(private / "lock", os.O_WRONLY | os.O_CREAT, 0o600)  # held until the process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    return private / "r"


def remove_at_exit(folder: Path) -> None:
    """Shut Ray down and remove its folder when Python ends."""

    def remove() -> None:
        ray.shutdown()
        shutil.rmtree(folder.parent, ignore_errors=True)

    atexit.register(remove)


def _remove_old(base: Path) -> None:
    for private in _abandoned(base):
        shutil.rmtree(private, ignore_errors=True)


def _abandoned(base: Path) -> Iterator[Path]:
    """Yield this user's session folders whose launch was killed, an hour after their last sign of life."""
    for private in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if private.lstat().st_uid != os.geteuid() or time.time() - _last_written(private) < KEPT_S:
                continue
            with open(private / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield private


def _last_written(private: Path) -> float:
    """Return when a session folder was made, or one of Ray's logs in it was last written to."""
    return max(path.lstat().st_mtime for path in (private, *private.glob("r/session_*/logs/*")))
