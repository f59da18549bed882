"""Data classes of trials, epochs and observations, as read from the study's storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """State of a trial. One whose driver was killed stays RUNNING until a resume continues it."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class TrialRole(StrEnum):
    """Purpose of a trial: the search itself, a searched baseline arm, or the confirm stage's control or winner."""

    SEARCH = "search"
    BASELINE = "baseline"
    CONTROL = "control"
    CONFIRM = "confirm"


class Decision(StrEnum):
    """Decision about a trial after an epoch."""

    CONTINUE = "continue"
    PRUNE = "prune"
    DONE = "done"


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of a trial.

    Attributes:
        metrics: "val/...", "train/...", "seconds", "passes".
        decision: made once, when the epoch was recorded; a resume repeats it.
        checkpoint: name of the checkpoint file after this epoch, relative to the run folder.
        place: (rank from 1, number of trials) among the trials that had reached this epoch by then; None where
            trials were not compared.
    """

    metrics: Mapping[str, float]
    decision: Decision
    checkpoint: str
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Observation:
    """The result of one trial, as a sampler sees it.

    Attributes:
        params: the searched parameters.
        values: one per objective, with its own sign, after the epoch that the trial is judged by.
        epochs: how many were trained.
        pruned: stopped early.
        violations: {metric of a constraint: how far below its floor}; a value above 0 makes the trial infeasible.
        source: run and trial of an observation of an earlier run, "RUN/0007"; "" for one of this run.
    """

    params: Mapping[str, Any]
    values: tuple[float, ...]
    epochs: int
    pruned: bool = False
    violations: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it is stored.

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
        judged_epoch: the epoch that a complete trial is judged and evaluated by, the best so far of one that runs;
            0 is the last.
    """

    lane: str
    number: int
    role: TrialRole
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
    judged_epoch: int = 0

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
    def judged(self) -> Mapping[str, float]:
        """Return the metrics of the epoch that the trial is judged by; empty before epoch 1.

        That of a trial that is judged by its last epoch: its metrics, and the last validation if that was before.
        """
        if not self.history:
            return {}
        if self.judged_epoch:
            return self.history[self.judged_epoch].metrics
        newest = self.history[self.epochs].metrics
        if _is_validated(newest):
            return newest
        before = (self.history[epoch].metrics for epoch in sorted(self.history, reverse=True))
        validated = next(filter(_is_validated, before), {})
        return {**{name: value for name, value in validated.items() if name.startswith("val/")}, **newest}

    @property
    def last_checkpoint(self) -> str:
        """Return the file that a running trial is continued from."""
        return self.history[self.epochs].checkpoint if self.history else ""

    @property
    def checkpoint(self) -> str:
        """Return the file that the trial is evaluated by."""
        return self.history[self.judged_epoch].checkpoint if self.judged_epoch else self.last_checkpoint

    @property
    def seconds(self) -> float:
        """Return the training and validation time over all epochs."""
        return sum(epoch.metrics.get("seconds", 0.0) for epoch in self.history.values())

    @property
    def longest_epoch_s(self) -> float:
        return max((epoch.metrics.get("seconds", 0.0) for epoch in self.history.values()), default=0.0)


def _is_validated(metrics: Mapping[str, float]) -> bool:
    return any(name.startswith("val/") for name in metrics)


def trial_key(lane: str, number: int) -> str:
    return f"{number:04d}" if lane == "search" else f"{lane}-{number:04d}"


def most_common(reasons: Sequence[str]) -> str:
    """Return the most common reason with its count, "out of memory (3 of 5)"."""
    if not reasons:
        return "no reason recorded"
    top = max(set(reasons), key=lambda reason: (reasons.count(reason), reason))
    return f"{top} ({reasons.count(top)} of {len(reasons)})"
