"""Texts on MLflow's pages of an experiment, a run and a model version: when they may be replaced."""

NOTE = "mlflow.note.content"  #: tag of an experiment or a run that MLflow shows as Markdown
CLOSING = "Written by robust-tuner, and replaced by its next launch unless this line is deleted."
MOST = 7800  #: characters; MLflow cuts a run's at 8000


def may_replace(current: str, *, first: bool) -> bool:
    """Return whether a note may be written in the place of another: a user's own text stays.

    Args:
        current: what is there, "" for nothing.
        first: the new one is only for a page that has none.
    """
    return not current or (CLOSING in current and not first)


def signed(text: str) -> str:
    """Return a text with the line that says who wrote it."""
    return f"{text.rstrip()}\n\n---\n*{CLOSING}*\n"
