"""Which study storage of a run folder may be opened: `plan.json` is input, and whoever wrote it may name any server.

A database in the run folder may be read, one that the user names now, and one that this user has named before: those
are kept, without passwords, in a file of the user's own, $XDG_STATE_HOME/robust-tuner/storages.json.
"""

import json
from contextlib import suppress
from pathlib import Path

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.private_files import write_private
from tuner.base.urls import sqlite_file, without_password
from tuner.store.run_folder import RunFolder

MOST = 1000  # storages that are remembered


def storage_to_read(folder: RunFolder, given: str | None, stored: str | None) -> str:
    """Return the URL of a run's study storage.

    Args:
        given: what the user names, by an option or a variable; it is remembered.
        stored: what `plan.json` names.

    Raises:
        UsageError: `plan.json` names a storage that this user has never named.
    """
    if given:
        remember(given)
        return given
    if not stored:
        return folder.storage_url(None)
    file = sqlite_file(stored)
    inside = file is not None and file.resolve().is_relative_to(folder.local.resolve())
    if not inside and without_password(stored) not in known():
        raise UsageError(
            f"plan.json of run {folder.name!r} names the study storage {without_password(stored)}; "
            "give it with --study-storage to read it"
        )
    own = environment.variable("TUNER_STUDY_STORAGE")
    return own if own and stored == without_password(own) else stored


def remember(url: str) -> None:
    """Keep that this user has named a storage."""
    storages, bare = known(), without_password(url)
    if bare in storages:
        return
    with suppress(OSError):  # without it the user is asked again
        write_private(_file(), json.dumps([*storages[-MOST + 1 :], bare], indent=1))


def known() -> list[str]:
    """Return the storages that this user has named, without passwords, oldest first; none if the file is damaged."""
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return []
    return [url for url in found if isinstance(url, str)] if isinstance(found, list) else []


def _file() -> Path:
    root = environment.variable("XDG_STATE_HOME")
    return (Path(root) if root else Path.home() / ".local" / "state") / "robust-tuner" / "storages.json"
