"""Errors of the Python interface: the message is the one line that the command line shows."""

import contextlib
from collections.abc import Iterator

from search_spaces.domain import SpaceError
from trainables.base.errors import InputError
from tuner.base.errors import LeaseLost, StudyFailed, UsageError
from tuner.base.text import one_line

__all__ = ["Interrupted", "LeaseLost", "StudyFailed", "UsageError", "in_one_line"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM, SIGHUP or `--stop` ended the launch; everything is saved, and `resume` goes on.

    Attributes:
        run: name of the run, "" if it had not begun.
        exit_code: what the command line would end with: 128 + the signal.
    """

    def __init__(self, run: str, exit_code: int) -> None:
        saved = f"interrupted; everything is saved, go on with robust_tuner.resume({run!r})"
        super().__init__(saved if run else "interrupted before the run had begun")
        self.run, self.exit_code = run, exit_code


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turn every error of usage and input into a UsageError, and every message into one line without passwords."""
    try:
        yield
    except (UsageError, InputError, SpaceError) as error:
        raise UsageError(one_line(error, limit=None)) from error
    except StudyFailed as error:
        raise type(error)(one_line(error, limit=None)) from error
    except LeaseLost as error:
        raise LeaseLost(one_line(error, limit=None)) from error
