"""Which MLflow store a launch writes to: the one that is named, or for a resume the one that the run has.

A `plan.json` is input, and whoever wrote it may name any server: of those only one that this user has launched with
is written to (see `tuner.base.known_list`).
"""

import os
from pathlib import Path
from typing import Any

from tuner.base import environment, known_list
from tuner.base.errors import UsageError
from tuner.base.urls import redact, sqlite_url, without_password
from tuner.planning.command_line import parse_stored
from tuner.planning.launch_options import LaunchOptions
from tuner.store.run_folder import RunFolder
from tuner.tracking.mlflow_uris import choose_uri

LIST = "trackings"  #: of `known_list`


def tracking_uri(folder: RunFolder, options: LaunchOptions) -> str:
    """Return the tracking URI of a launch, an SQLite file's with its absolute path.

    Raises:
        InputError: MLflow could not use it.
        UsageError: `plan.json` names a store that this user has never launched with, or whose password it lacks.
    """
    variable = environment.variable("MLFLOW_TRACKING_URI")
    stored = ""
    if options.resume is not None and not options.tracking_uri and not variable:
        stored = _stored_uri(folder)
    return choose_uri(options.tracking_uri, variable or stored)


def remember(uri: str) -> None:
    """Keep that this user has launched with a store."""
    known_list.remember(LIST, [without_password(uri)])


def _stored_uri(folder: RunFolder) -> str:
    """Return the URI that `plan.json` names, "" if it has none that says where."""
    facts = folder.entries()
    stored: str = facts.get("tracking_uri") or ""
    relative = stored.removeprefix("sqlite:///")
    if stored.startswith("sqlite:///") and not relative.startswith(("/", "file:")):
        return _beside_the_runs(folder, facts, relative) or stored
    if not stored or stored == choose_uri(None, ""):
        return stored
    if "***" in stored:
        raise UsageError(
            f"the password of the run's MLflow store {redact(stored)} is not stored; set MLFLOW_TRACKING_URI"
        )
    if stored not in known_list.known(LIST):
        raise UsageError(
            f"plan.json of run {folder.name!r} names the MLflow store {redact(stored)}; "
            "give it with --tracking-uri to write there"
        )
    return stored


def _beside_the_runs(folder: RunFolder, facts: dict[str, Any], relative: str) -> str:
    """Return the URI of a file that an earlier version named from its working folder, "" if it is not known or gone.

    With the default --storage the runs are in that folder, too.
    """
    try:
        moved = parse_stored(facts["commands"][0]).storage != LaunchOptions().storage
    except (UsageError, KeyError, IndexError):  # of another version
        moved = True
    if folder.remote or moved:
        return ""
    file = Path(folder.root).resolve().parent / relative
    return sqlite_url(file) if file.is_file() and file.stat().st_uid == os.geteuid() else ""
