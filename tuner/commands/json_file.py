"""The answer of a command as JSON: on standard output for `--json`, in a file for `--json FILE`."""

import contextlib
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tuner.base.errors import UsageError
from tuner.planning.task_options import STDOUT


def only_json_on_stdout(json: str | None) -> AbstractContextManager[object]:
    """Return a context in which what the user's code prints goes to standard error if JSON goes to standard output."""
    return contextlib.redirect_stdout(sys.stderr) if json == STDOUT else contextlib.nullcontext()


def write_json(file: str, text: str) -> None:
    """Write JSON text to a file.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {file} cannot be written: {error.strerror}") from error
