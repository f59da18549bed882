"""The user's cache folder, and a file lock with which the processes of one machine fill a cache entry only once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.base.permissions import created, make_folder, make_private_folder


def default_cache_dir() -> Path:
    """Return the user's cache folder of this project ($XDG_CACHE_HOME/robust-tuner, else ~/.cache/...)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "robust-tuner"


def cache_dir_of(given: str) -> Path:
    """Return the cache folder that an option names, or the user's where it names none."""
    return Path(given) if given else default_cache_dir()


def make_cache_folder(folder: Path) -> None:
    """Make a folder and those above it; the user's cache folder, and so what is in it, for this user alone."""
    own = default_cache_dir()
    if folder.is_relative_to(own):
        make_private_folder(own)
    make_folder(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, made if missing; the kernel releases it when the process ends."""
    make_cache_folder(path.parent)
    with open(created(path), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
