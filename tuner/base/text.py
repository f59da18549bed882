"""Messages as they are shown: on one line, without passwords, and without characters that steer a terminal."""

import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from tuner.base.errors import UsageError
from tuner.base.urls import redact

_NOT_PLAIN = re.compile(r"[^\n\x20-\x7e]")


_ASCII = str.maketrans({"±": "+/-", "ε": "eps", "−": "-", "…": "...", "·": "-", "×": "x"})


def encodable(text: str, encoding: str) -> str:
    """Return a text as an encoding can hold it: as it is, or else in ASCII, with the signs of reports spelled out.

    Example:
        ("0.9 ± 0.1 é", "ascii") -> "0.9 +/- 0.1 ?"
    """
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return text


def visible(text: str) -> str:
    """Return a text in which characters that are not seen stand as escapes, but line feeds as they are.

    Names, reasons and logs may hold any of them: a terminal would obey.

    Example:
        "a\\x1b[2Jb" -> "a\\\\x1b[2Jb"
    """
    return _NOT_PLAIN.sub(_seen, text)


def _seen(found: re.Match[str]) -> str:
    """Return a character that is seen, or a space of any width, as it is.

    Of the others some steer a terminal or turn the direction of writing, halves of a surrogate pair fit no encoding,
    and what Unicode has not assigned looks different everywhere.
    """
    character = found[0]
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def as_line(text: str) -> str:
    """Return a text as one line, with line feeds as escapes too: names and hosts may hold them, to forge a line.

    Example:
        "a\\nb" -> "a\\\\nb"
    """
    return visible(text).replace("\n", "\\n")


def show(text: str, end: str = "\n") -> None:
    """Write lines to the terminal.

    Raises:
        BrokenPipeError: the reader has gone.
        UsageError: they cannot be written: the disk is full, standard output is closed.
    """
    stream: TextIO | None = sys.stdout
    if stream is None or stream.closed:
        raise UsageError("standard output is closed, so that the answer cannot be shown")
    try:
        stream.write(encodable(visible(text), stream.encoding or "utf-8") + end)
        stream.flush()
    except OSError as error:
        to_devnull(stream)
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(
            f"standard output cannot be written to: {one_line(error.strerror or error)}"
        ) from error


def to_devnull(stream: TextIO) -> None:
    """Point a standard stream at /dev/null: else Python fails once more when it flushes at exit."""
    if stream not in (sys.stdout, sys.stderr):
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return


def one_line(message: object, limit: int | None = 400) -> str:
    """Return a message on one line and without passwords, cut after `limit` characters (None: never)."""
    line = visible(" ".join(redact(str(message)).split()))
    return line if limit is None or len(line) <= limit else f"{line[:limit]} ..."


def short_reason(error: BaseException) -> str:
    """Return why a connection failed, in the system's own words, else the error on one line.

    Libraries wrap the system's error several times, each time in a longer text.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return one_line(cause.strerror)
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        cause = cause.__cause__ or cause.__context__
    return one_line(error)


def counted(number: float, noun: str) -> str:
    """Return a number with its noun: "1 trial", "2 trials"."""
    return f"{number:.0f} {noun}" if number == 1 else f"{number:.0f} {noun}s"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names with commas: the first ones, and how many there are if there are more.

    Example:
        ("a", "b", "c"), most 2 -> "a, b, ... (3 in all)"
    """
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def aligned(rows: Sequence[Sequence[str]], words: frozenset[int] = frozenset({0})) -> list[str]:
    """Return rows of cells as lines whose columns stand below each other, whatever characters a cell holds.

    Args:
        words: columns that are set to the left; numbers are set to the right.
    """
    rows = [[as_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
