"""Names of the checkpoints of a trial, and which of them stay. Nothing of their content, so no torch."""

import re
from collections.abc import Collection, Container, Sequence

from trainables.base.storage import Folder

_NAME = re.compile(r"epoch-(\d+)\.pt$")


def checkpoint_name(key: str, epoch: int) -> str:
    """Return the file's name relative to the run folder."""
    return f"checkpoints/{key}/epoch-{epoch:04d}.pt"


def earlier(folder: Folder, name: str) -> list[str]:
    """Return the checkpoints of the same trial from before one, the newest first."""
    key = name.rsplit("/", 1)[0]
    found = [n for n in folder.names(key) if 0 <= _epoch_of(n) < _epoch_of(name)]
    return [f"{key}/{n}" for n in sorted(found, key=_epoch_of, reverse=True)]


def retain(folder: Folder, key: str, epoch: int, kept: Container[int] = ()) -> list[str]:
    """Delete a running trial's checkpoints but the latest, the one before it and those of some epochs.

    The one before stays: the driver may not have recorded the latest yet, and it is the fallback if that is corrupt.

    Args:
        kept: epochs that the trial may be judged by.

    Returns:
        One line for each file that is still there.
    """
    where = f"checkpoints/{key}"
    old = [n for n in folder.names(where) if 0 <= _epoch_of(n) < epoch - 1 and _epoch_of(n) not in kept]
    return delete(folder, [f"{where}/{name}" for name in old])


def keep_only(folder: Folder, key: str, kept: Collection[str]) -> list[str]:
    """Delete all that an ended trial has left in its checkpoint folder but some files.

    Half-written files of killed workers go too. Nothing is deleted if a file to keep is not there.

    Args:
        kept: relative to the run folder.

    Returns:
        One line for each file that is still there, and for a file to keep that is missing.
    """
    names = [f"checkpoints/{key}/{name}" for name in folder.names(f"checkpoints/{key}")]
    missing = sorted(set(kept) - set(names))
    if missing:
        return [f"{missing[0]} is missing, so the others of its trial were kept"] if names else []
    return delete(folder, [name for name in names if name not in kept])


def delete(folder: Folder, names: Sequence[str]) -> list[str]:
    """Delete files and check that they are gone.

    Returns:
        One line for each file that is still there.
    """
    errors: dict[str, str] = {}
    for name in names:
        try:
            folder.delete(name)
        except OSError as error:
            errors[name] = f": {error.strerror or error}"
    left: set[str] = set()
    for where in {name.rpartition("/")[0] for name in names}:
        left |= {f"{where}/{name}" for name in folder.names(where)}
    return [f"{name} is still there{errors.get(name, '')}" for name in sorted(left.intersection(names))]


def _epoch_of(name: str) -> int:
    match = _NAME.search(name)
    return int(match.group(1)) if match else -1
