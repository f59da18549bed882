"""Who may read what is written: files and folders no more open than the folder they lie in, whatever the umask."""

import os
import stat
from collections.abc import Callable
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each no more open than the one it is made in."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=_inherited(path.parent), exist_ok=True)


def make_private_folder(path: Path) -> None:
    """Make a folder for this user alone, unless it is there: then it stays as it is.

    A folder with the set-group-ID bit is how a group shares files: what is made in it gets the rights of the umask.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o777 if _is_shared(path.parent) else 0o700, exist_ok=True)


def created(path: Path, *, private: bool = False) -> Path:
    """Return the path of a file; one that is missing is made, empty, no more open than its folder.

    Args:
        private: for this user alone, but in a folder that a group shares; see `make_private_folder`.

    Raises:
        OSError: it cannot be made, or is a pipe that nobody reads, which would be waited for without end.
    """
    mode = 0o600 if private and not _is_shared(path.parent) else 0o777
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, mode & _inherited(path.parent) & 0o666))
    return path


def opener(folder: Path, *, private: bool = False) -> Callable[[str, int], int]:
    """Return an `opener` for Python's `open` that makes files no more open than this folder, or for this user alone."""
    mode = 0o600 if private else _inherited(folder) & 0o666
    return lambda path, flags: os.open(path, flags, mode)


def _inherited(folder: Path) -> int:
    """Return the rights that a folder in this one may have at most."""
    return 0o700 | folder.stat().st_mode & 0o777


def _is_shared(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_ISGID)
