"""Checksums of stored values and JSON files: what a bad disk has changed is noticed when it is read.

SQLite has none: `PRAGMA integrity_check` sees a broken page or index, and no flipped bit inside a value. So every
attribute in the study storage is kept as {"value": ..., "sum": ...}. The sum covers the value and its place (lane,
trial, key), which tells a value that stands with another trial from its own. JSON files have an entry "checksum". Runs
of earlier versions have neither.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from tuner.base.errors import UsageError

#: attribute of a lane's study, made before its first trial: all its attributes have checksums
MARK = "checksums"
FILE_ENTRY = "checksum"


class Damaged(UsageError):
    """A stored value is not what was written; the message says which."""


def checksum(*content: Any) -> str:
    """Return a hash of JSON values, the same for a value and for what JSON makes of it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def with_checksum(value: Any, *place: Any) -> dict[str, Any]:
    """Return what is stored for a value."""
    return {"value": value, "sum": checksum(value, *place)}


def checked(stored: Any, name: str, *place: Any, required: bool) -> Any:
    """Return the value of what `with_checksum` made for the same place.

    Args:
        name: of the value, for the error's message.
        required: False takes a value of an earlier version, which has no checksum, as it is.

    Raises:
        Damaged: value or place are not those that the checksum was made for.
    """
    if isinstance(stored, dict) and stored.keys() == {"value", "sum"}:
        if stored["sum"] == checksum(stored["value"], *place):
            return stored["value"]
        raise Damaged(f"{name} does not match its checksum")
    if required:
        raise Damaged(f"{name} has no checksum")
    return stored


def file_with_checksum(content: Mapping[str, Any]) -> bytes:
    """Return the JSON file of an object, with the checksum of all other entries as its last one."""
    entries = {key: value for key, value in content.items() if key != FILE_ENTRY}
    return json.dumps({**entries, FILE_ENTRY: checksum(entries)}, indent=2).encode()


def checked_file(data: bytes) -> dict[str, Any]:
    """Return the object in a JSON file, without its checksum; a file of an earlier version has none.

    Raises:
        Damaged: it is no JSON object, or not the one that was written.
    """
    try:
        content = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error) or type(error).__name__) from error
    if not isinstance(content, dict):
        raise Damaged(f"it holds a {type(content).__name__}, not an object")
    stored = content.pop(FILE_ENTRY, None)
    if stored not in (None, checksum(content)):
        raise Damaged("it does not match its checksum")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
