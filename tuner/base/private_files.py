"""Files and folders that no other user of the machine can read, swap or add to."""

import os
import secrets
import stat
from pathlib import Path

from trainables.base.permissions import make_private_folder
from trainables.base.storage import atomic_write


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, not even for a moment; an old one is replaced as a whole."""
    make_private_folder(path.parent)
    with atomic_write(path, private=True) as file:
        file.write(text.encode())


def keep_private(path: Path, text: str) -> None:
    """Write a secret unless there is one already; its mode becomes 600 either way.

    Of two processes that write at once the second keeps what the first has written.

    Raises:
        PermissionError: the file belongs to another user, who may know what it holds.
    """
    if path.is_file() and not path.stat().st_size:
        path.unlink()  # a process was killed in between
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        write_private(draft, text)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            write_private(path, text)
        finally:
            draft.unlink()
    make_private(path)


def make_private(path: Path) -> None:
    """Take every right of others to a file away.

    Raises:
        PermissionError: it belongs to another user.
    """
    with open(path, "rb") as file:  # what is checked is what is changed, whoever swaps the name meanwhile
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()}")
        if found.st_mode & 0o077:
            os.fchmod(file.fileno(), 0o600)


def others_may_swap(folder: Path) -> Path | None:
    """Return the folder at or above `folder` in which another user could rename what this user has put there.

    That is one of another user (but root), or one that others may write to and that is not sticky as /tmp is.
    """
    for each in (folder.resolve(), *folder.resolve().parents):
        found = each.stat()
        writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or writable:
            return each
    return None
