"""Which study storage of a run folder may be opened: `plan.json` is input, and whoever wrote it may name any server.

A database in the run folder may be read, one that the user names now, and one that this user has named before: those
are kept, without passwords, in a file of the user's own, $XDG_STATE_HOME/robust-tuner/storages.json.
"""

from tuner.base import environment, known_list
from tuner.base.errors import UsageError
from tuner.base.urls import sqlite_file, without_password
from tuner.store.run_folder import RunFolder

LIST = "storages"  #: of `known_list`


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
    if not inside and stored not in known():  # to the letter: two programs may read one URL as two servers
        raise UsageError(
            f"plan.json of run {folder.name!r} names the study storage {without_password(stored)}; "
            "give it with --study-storage to read it"
        )
    own = environment.variable("TUNER_STUDY_STORAGE")
    return own if own and stored == without_password(own) else stored


def remember(url: str) -> None:
    """Keep that this user has named a storage."""
    known_list.remember(LIST, [without_password(url)])


def known() -> list[str]:
    """Return the storages that this user has named, without passwords, oldest first."""
    return known_list.known(LIST)
