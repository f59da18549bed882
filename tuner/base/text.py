"""Messages as they are shown: on one line, without passwords."""

from tuner.base.urls import redact


def one_line(message: object, limit: int | None = 400) -> str:
    """Return a message on one line and without passwords, cut after `limit` characters (None: never)."""
    line = " ".join(redact(str(message)).split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]} ..."
