"""The errors that training code raises on purpose; each message is one line with cause and cure."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SHOWN = 6  #: names that an error message lists at most


class InputError(ValueError):
    """Something the user gave is wrong: an option, a file, a name. Shown as one line, exit status 2."""


class DataFileError(InputError):
    """A data file is missing, corrupt or not in the documented format; the message names the file."""


class CodeError(InputError):
    """The user's own code is not there, raises when it is imported, or is not what the user has launched with."""


class SealedSplitError(RuntimeError):
    """A test split was opened while searching. Search may read train and validation splits only."""


class TrainingFailed(RuntimeError):
    """A trial cannot go on (a loss that is not finite, a collapsed generator); the message is its reason."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the one-line message for a name that is not among the known ones."""
    return f"unknown {kind} {name!r}; {nearest(name, known)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the name that may be meant and the few nearest: "did you mean tpe? known: gp, tpe and 4 more"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    shown = sorted(difflib.get_close_matches(name, names, n=SHOWN, cutoff=0.0))
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    listed = f"known: {', '.join(shown) or 'none'}{more}"
    return f"did you mean {close[0]}? {listed}" if close else listed


def describe_error(error: BaseException) -> str:
    """Return one line for an exception: the message of a TrainingFailed, of any other with its type."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    if isinstance(error, TrainingFailed):
        return text
    # torch's own error of a full GPU, without importing torch
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}"[:500]


@contextmanager
def foreign_code(
    kind: type[InputError], what: str, passed: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Within this, whatever the user's own or a library's code raises becomes an error of one line.

    Args:
        kind: of error.
        what: its beginning, before the exception's type and text.
        passed: errors that are raised as they are; Ctrl-C is, too.
    """
    try:
        yield
    except BaseException as error:  # foreign code may raise anything
        if isinstance(error, (KeyboardInterrupt, *passed)):
            raise
        text = " ".join(str(error).split())[:300]
        raise kind(f"{what}{type(error).__name__}: {text}") from error
