"""What is known of trials, as values: the shape of the truth that lives in the study's storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a trial stands. Killed in flight is RUNNING until a driver takes it up again."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Role(StrEnum):
    """Why a trial exists."""

    SEARCH = "search"
    BASELINE = "baseline"
    CONTROL = "control"
    CONFIRM = "confirm"


class Decision(StrEnum):
    """What happens to a trial after an epoch."""

    CONTINUE = "continue"
    PRUNE = "prune"
    DONE = "done"


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of a trial.

    Attributes:
        metrics: "val/...", "train/...", "seconds", "passes".
        decision: taken once, when the epoch was recorded; a resume repeats it and does not decide anew.
        checkpoint: name of the checkpoint file after this epoch, relative to the run folder.
        place: (place from 1, of how many) among the trials that had got there when it was decided; None where none
            were compared.
    """

    metrics: Mapping[str, float]
    decision: Decision
    checkpoint: str
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Observation:
    """What a sampler learns from one trial.

    Attributes:
        params: the searched parameters.
        values: one per objective, with its own sign, after the last epoch.
        epochs: how many were trained.
        pruned: stopped early.
        violations: {floor: how far below it}; above 0 is infeasible.
        source: where an observation of an earlier run comes from, "RUN/0007".
    """

    params: Mapping[str, Any]
    values: tuple[float, ...]
    epochs: int
    pruned: bool = False
    violations: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the storage knows it.

    Attributes:
        lane: "search", the name of a baseline arm that is searched, or "confirm".
        number: from 0 within its lane.
        params: the searched parameters alone.
        configuration: every option that was set, searched or fixed.
        method: of `trainables.options.methods.METHODS`.
        arm, seed_index: of a confirm trial, which arm and which of the fresh seeds.
        history: {epoch from 1: what was recorded}.
        attempt: how often it was started.
        starts: wall-clock time of each start, UTC; to be shown, never compared.
        reason: why it failed or was stopped, one line.
    """

    lane: str
    number: int
    role: Role
    state: State
    params: Mapping[str, Any]
    configuration: Mapping[str, Any]
    seed: int
    history: Mapping[int, Epoch] = field(default_factory=dict)
    reason: str = ""
    attempt: int = 0
    method: str = ""
    arm: str = ""
    seed_index: int = -1
    starts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the trial's name within the run: "0007", "oe-0007", "confirm-0007"."""
        return trial_key(self.lane, self.number)

    @property
    def label(self) -> str:
        """Return the MLflow tag `trial`: the bare number of a search trial, the key of any other."""
        return str(self.number) if self.lane == "search" else self.key

    @property
    def epochs(self) -> int:
        return max(self.history, default=0)

    @property
    def last(self) -> Mapping[str, float]:
        """Return the metrics of the last epoch; empty before the first has ended."""
        return self.history[self.epochs].metrics if self.history else {}

    @property
    def checkpoint(self) -> str:
        return self.history[self.epochs].checkpoint if self.history else ""

    @property
    def seconds(self) -> float:
        """Return the training and validation time over all epochs."""
        return sum(epoch.metrics.get("seconds", 0.0) for epoch in self.history.values())

    @property
    def longest_epoch_s(self) -> float:
        return max((epoch.metrics.get("seconds", 0.0) for epoch in self.history.values()), default=0.0)


def trial_key(lane: str, number: int) -> str:
    return f"{number:04d}" if lane == "search" else f"{lane}-{number:04d}"


def most_common(reasons: Sequence[str]) -> str:
    """Return the reason that occurs most, with its count."""
    if not reasons:
        return "no reason recorded"
    top = max(set(reasons), key=lambda reason: (reasons.count(reason), reason))
    return f"{top} ({reasons.count(top)} of {len(reasons)})"
