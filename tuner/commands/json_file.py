"""Writes the answer of a command to the file that `--json FILE` names."""

from pathlib import Path

from tuner.base.errors import UsageError


def write_json(file: str, text: str) -> None:
    """Write JSON text to a file.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {file} cannot be written: {error.strerror}") from error
