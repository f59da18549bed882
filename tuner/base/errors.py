"""Errors shown to users; each message is one line: what is wrong, which value, what would be right."""


class UsageError(Exception):
    """Bad usage or bad input; exit status 2, nothing was started or written."""


class StudyFailed(Exception):
    """The study has no result (every trial failed, a stage failed); exit status 1.

    Args:
        reason: why; it is stored with the run.
        advice: what may help, shown after the reason.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


class StudyHalted(StudyFailed):
    """The study cannot continue for now (a full disk, an unexpected error); nothing is lost, a resume continues it."""


class Interrupted(Exception):
    """A signal asked the study to stop; everything is saved, `exit_code` is 128 + the signal: 129, 130 or 143."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"interrupted ({exit_code})")
        self.exit_code = exit_code


class LeaseLost(Exception):
    """Another driver holds the run, or may; this one must not write any more. Exit status 1."""


def root_cause(error: BaseException) -> BaseException:
    """Return the first exception of a chain: the database driver's own words, without those of the layers above."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
