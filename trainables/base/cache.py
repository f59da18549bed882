"""The user's cache folder, and the lock by which processes of one node do a piece of work once."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def default_cache_dir() -> Path:
    """Return the user's cache folder of this project ($XDG_CACHE_HOME/robust-tuner, else ~/.cache/...)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "robust-tuner"


def cache_dir_of(given: str) -> Path:
    """Return the cache folder that an option names, or the user's where it names none."""
    return Path(given) if given else default_cache_dir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, made if missing; a process that ends lets go, whatever ended it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file whole or not at all: beside its place first, then renamed."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
