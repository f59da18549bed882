"""Finds the study and trial of an MLflow run by its tags; imports mlflow inside its function."""

import re
from dataclasses import dataclass
from typing import Any

from tuner.base.errors import UsageError
from tuner.base.text import one_line
from tuner.base.urls import redact, resolved, sqlite_file
from tuner.tracking.mlflow_uris import check_uri


@dataclass(frozen=True)
class TrialRun:
    """The trial that an MLflow run belongs to.

    Attributes:
        run: name of the study's run at its last launch.
        run_id: by which its run folder is found.
        key: of the trial, "0007" or "confirm-0003".
    """

    run: str
    run_id: str
    key: str


def looks_like_run(text: str) -> bool:
    """Return whether a text has the form of an MLflow run id."""
    return bool(re.fullmatch(r"[0-9a-f]{32}", text))


def trial_of_run(uri: str, run_id: str) -> TrialRun:
    """Return the trial behind a child run, or the winner behind a study's run.

    Raises:
        UsageError: no such run, one that no study wrote, a study without a winner, a store that does not answer.
    """
    check_uri(uri)
    store, database = resolved(uri), sqlite_file(uri)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise UsageError(f"there is no MLflow store {database}; name the run's own with --tracking-uri")
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)

    def tags_of(run: str) -> dict[str, Any]:
        try:
            return dict(client.get_run(run).data.tags)
        except Exception as error:  # MLflow raises what its store raises
            reason = one_line(error, limit=200)
            raise UsageError(f"MLflow run {run} cannot be read from {redact(store)}: {reason}") from error

    own = tags_of(run_id)
    if "mlflow.parentRunId" not in own:
        best = own.get("best_trial", "")
        if "run" not in own:
            raise UsageError(f"MLflow run {run_id} is none that a study wrote (it has no tag run)")
        if not best:
            raise UsageError(f"run {own['run']!r} has no winner yet; name one of its trials")
        return TrialRun(own["run"], own.get("run_id", own["run"]), trial_key_of(best))
    parent = tags_of(own["mlflow.parentRunId"])
    if "key" not in own or "run" not in parent:
        raise UsageError(f"MLflow run {run_id} is no trial of a study (it lacks the tag key)")
    return TrialRun(parent["run"], parent.get("run_id", parent["run"]), own["key"])


def trial_key_of(label: str) -> str:
    """Return the key of a trial: the number of a search trial is padded with zeros, other keys stay.

    Example:
        "7" -> "0007"; "oe-0003" -> "oe-0003"
    """
    return f"{int(label):04d}" if label.isdecimal() else label
