"""Reads `plan.json`: the plan as JSON, and what else is known of the run, with the type of each entry checked."""

import datetime
from collections.abc import Mapping
from typing import Any

from tuner.base.checksums import Damaged, checked_file
from tuner.base.typed_json import Mismatch, read

Texts = tuple[str, ...]

#: {entry: its type}; entries of other versions are left as they are
ENTRIES: dict[str, Any] = {
    "run": str,
    "folder": str,
    "content_hash": str,
    "seed": int,
    "commit": str,
    "created": str,
    "finished": bool,
    "ended": Mapping[str, str] | None,
    "read_by_search": Texts,
    "versions": Mapping[str, str],
    "commands": Texts,
    "study_storage": str | None,
    "tracking_uri": str | None,
    "ui_command": str | None,
    "links": Mapping[str, str] | None,
    "test_data": Texts,
    "duplicates": Texts,
    "classes": Texts,
    "changed_data": Texts,
    "data_version": str,
    "gpu_share": Mapping[str, Any] | None,
}
NEEDED = ("created", "plan")
CHANGED = "the test data are not those that an earlier launch of this run had: its figures are of both"


def has_done_as_asked(facts: Mapping[str, Any]) -> bool:
    """Return whether the last launch of a run has done its stages: it was not killed, stopped or failed."""
    return bool(facts.get("finished")) or (facts.get("ended") or {}).get("state") == "done"


def begun(entries: Mapping[str, Any]) -> bool:
    """Return whether a trial of the run has been stored: what trials read is noted after that."""
    return bool(entries.get("read_by_search"))


def of_test_data(entries: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the entries that a hash of the test data changes: none if it is known, a note for good if another was."""
    known = entries.get("data_version")
    if known == version:
        return {}
    return {"data_version": version} | ({} if known is None else {"changed_data": [CHANGED]})


def data_notes(entries: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what must be known of a run's data: changed since, sets left out, regenerated, duplicates."""
    return tuple(
        line for name in ("changed_data", "test_data", "duplicates") for line in entries.get(name, ())
    )


def parse(data: bytes, uri: str) -> dict[str, Any]:
    """Return the entries of a `plan.json`.

    Args:
        uri: of the file, for the message.

    Raises:
        Damaged: the line says where.
    """
    try:
        entries = checked_file(data)
        for name in NEEDED:
            if name not in entries:
                raise Mismatch(f"{name} is missing")
        for name, hint in ENTRIES.items():
            if name in entries:
                read(hint, entries[name], name)
        try:
            datetime.datetime.fromisoformat(entries["created"])
        except ValueError:
            raise Mismatch(f"created is {entries['created']!r}; it must be a time") from None
    except (Damaged, Mismatch) as error:
        raise Damaged(f"{uri} is damaged: {error}; restore it from a copy") from error
    return entries
