"""Writes what a command makes into a folder of the user's; one that cannot be written is told in one line."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainables.base.storage import Folder
from tuner.base.errors import UsageError


@contextlib.contextmanager
def told_if_unwritable(folder: Path) -> Iterator[None]:
    """Raise UsageError for a file that cannot be written into a folder inside the context."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be written to: {error.strerror or error}; name another folder"
        ) from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write {name: content} into a folder, which is made if it is not there.

    Raises:
        UsageError: it cannot be written to.
    """
    with told_if_unwritable(folder):
        target = Folder(folder)
        for name, content in files.items():
            target.write(name, content)
