"""The errors that training code raises on purpose; each message is one line with cause and cure."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: an option, a file, a name. Shown as one line, exit status 2."""


class DataFileError(InputError):
    """A data file is missing, corrupt or not in the documented format; the message names the file."""


class SealedSplitError(RuntimeError):
    """A test split was opened while searching. Search may read train and validation splits only."""


class TrainingFailed(RuntimeError):
    """A trial cannot go on (a loss that is not finite, a collapsed generator); the message is its reason."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the one-line message for a name that is not among the known ones, with the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"
