"""What is left out of MLflow for good, one line per kind of problem, however often it occurs."""

from tuner.base.text import one_line

_MAX_KINDS, _MAX_LINES = 200, 10_000


class Problems:
    """Lines by kind; a line that comes again counts once, as events may be delivered twice."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, None]] = {}

    def add(self, line: str, kind: str = "") -> None:
        """Add a problem.

        Args:
            kind: what it has in common with others, which are told with it; default nothing.
        """
        line = one_line(line)
        kind = kind or line
        if kind in self._kinds or len(self._kinds) < _MAX_KINDS:
            lines = self._kinds.setdefault(kind, {})
            if len(lines) < _MAX_LINES:
                lines[line] = None

    def lines(self) -> list[str]:
        """Return one line per kind: its first problem, and how many more there are."""
        return [
            next(iter(lines)) + (f" (and {len(lines) - 1} more like it)" if len(lines) > 1 else "")
            for lines in self._kinds.values()
        ]
