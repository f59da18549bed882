"""The facts of a run by the trial that they are of: test metrics, and those after the last epoch."""

from collections.abc import Mapping
from typing import Any

EVALUATION, EVALUATED, LAST_EPOCH = "evaluation/", "evaluated/", "last_epoch/"  #: before a trial's key


def by_trial(facts: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return {trial key: fact} of a kind."""
    return {key.removeprefix(kind): fact for key, fact in facts.items() if key.startswith(kind)}


def last_epochs(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return {trial key: test metrics after its last epoch} of trials that are judged by an earlier one."""
    return {key: entry["metrics"] for key, entry in by_trial(facts, LAST_EPOCH).items()}
