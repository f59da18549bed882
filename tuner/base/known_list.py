"""What this user has named before, kept in a file of the user's own: $XDG_STATE_HOME/robust-tuner/NAME.json."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tuner.base import environment
from tuner.base.private_files import write_private

MOST = 1000  # entries that are kept


def known(name: str) -> list[str]:
    """Return what is kept, oldest first; nothing if the file is damaged."""
    try:
        found = json.loads(_file(name).read_text())
    except (OSError, ValueError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, str)] if isinstance(found, list) else []


def remember(name: str, entries: Iterable[str]) -> None:
    """Keep more; the oldest go."""
    kept = known(name)
    new = [entry for entry in entries if entry not in kept]
    if new:
        with suppress(OSError):  # without it the user is asked again
            write_private(_file(name), json.dumps([*kept, *new][-MOST:], indent=1))


def _file(name: str) -> Path:
    root = environment.variable("XDG_STATE_HOME")
    return (Path(root) if root else Path.home() / ".local" / "state") / "robust-tuner" / f"{name}.json"
