"""The schedulers by name: which trials are stopped early. Pure functions of the recorded epochs.

So a resumed run decides what the run without interruption would have decided. Imports nothing heavy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trainables.base.registry import Registry
from tuner.base.records import Decision
from tuner.search.learning_curves import Curve, LearningCurves, Point

Place = tuple[int, int]  # place from 1, of how many


class Schedule(Protocol):
    """A rule that stops trials early."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the epochs at which all trials are compared; () for a rule without such epochs."""

    @property
    def first(self) -> int | None:
        """Return the first epoch at which trials are compared; None if they never are."""

    def looks_at(self, epoch: int) -> Sequence[int]:
        """Return the epochs that a decision after `epoch` reads; empty if no decision is taken there."""

    def stops(self, epoch: int, place: Place, own: Curve, others: LearningCurves) -> bool:
        """Return whether the trial ends here.

        Args:
            place: rank of the trial among all that have reached the epoch, by their points there.
            own: the curve of the trial to this epoch.
            others: the curves of the other trials of the search.
        """

    def fewest_epochs(self, trials: int) -> int:
        """Return how few epochs so many trials may come to."""

    def outlook(self, trials: int) -> str:
        """Return how far so many trials will train, as the end of a line of `--dry-run`."""


def decide(
    schedule: Schedule, epoch: int, own: Curve, others: LearningCurves, max_epochs: int
) -> tuple[Decision, Place | None]:
    """Return what happens to a trial that has just finished `epoch`, counted from 1, and its place there.

    The place is None where trials are not compared.

    Args:
        own: this trial's curve to this epoch.
        others: the curves of the other trials so far.
        max_epochs: the end of every trial.
    """
    if epoch >= max_epochs:
        return Decision.DONE, None
    if not schedule.looks_at(epoch):
        return Decision.CONTINUE, None
    place = 1 + others.before(epoch, own[epoch]), 1 + others.count(epoch)
    stops = schedule.stops(epoch, place, own, others)
    return Decision.PRUNE if stops else Decision.CONTINUE, place


def compared_epochs(schedule: Schedule, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs whose objectives are read: those that a decision looks at, and the last.

    Example:
        rungs 1 and 3 of 9 epochs -> (1, 3, 9); median stopping -> all
    """
    # without rungs it is every epoch from the first on
    looks = schedule.rungs or range(schedule.first or max_epochs, max_epochs)
    read = {at for epoch in looks for at in schedule.looks_at(epoch)}
    return tuple(sorted({*read, max_epochs}))


CANDIDATES = 10  #: epochs at most, of which the best can be chosen


def candidate_epochs(max_epochs: int) -> tuple[int, ...]:
    """Return the epochs of which the best on validation data may be chosen: evenly spaced in the second half.

    Robust overfitting sets in after the learning rate has fallen; of the first half no epoch is worth a validation.

    Example:
        9 -> (5, 6, 7, 8, 9); 200 -> (101, 112, 123, ..., 200)
    """
    first = max_epochs // 2 + 1
    count = min(CANDIDATES, max_epochs - first + 1)
    if count == 1:
        return (max_epochs,)
    return tuple(round(first + i * (max_epochs - first) / (count - 1)) for i in range(count))


def rungs(first: int, reduction: int, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: first * reduction**k below max_epochs.

    Example:
        first 1, reduction 3, max 9 -> (1, 3); first 1, reduction 3, max 10 -> (1, 3, 9)
    """
    epochs, epoch = [], first
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction
    return tuple(epochs)


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving, stopping form.

    At a rung the trial goes on if it is among the best 1/reduction (rounded up) of all that have reached the
    rung so far, itself included.

    Source:
        Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020). Differs in stopping where the
        paper pauses, and for several objectives in ranking by non-dominated fronts (Schmucker et al. 2021).
    """

    rungs: tuple[int, ...]
    reduction: int
    max_epochs: int

    @property
    def first(self) -> int | None:
        return next(iter(self.rungs), None)

    def looks_at(self, epoch: int) -> Sequence[int]:
        return (epoch,) if epoch in self.rungs else ()

    def stops(self, epoch: int, place: Place, own: Curve, others: LearningCurves) -> bool:
        return place[0] > math.ceil(place[1] / self.reduction)

    def fewest_epochs(self, trials: int) -> int:
        """Return the epochs if every rung keeps its best 1/reduction and no more.

        Example:
            20 trials, rungs 1 and 3 of 9 epochs, reduction 3: 20 * 1 + 7 * 2 + 3 * 6 = 52
        """
        total, before = 0, 0
        for epoch, alive in self.survivors(trials):
            total += alive * (epoch - before)
            before = epoch
        return total

    def survivors(self, trials: int) -> list[tuple[int, int]]:
        """Return [(epoch, trials that train that far)] if every rung keeps its best 1/reduction.

        Example:
            20 trials, rungs 1 and 3 of 9 epochs, reduction 3: (1, 20), (3, 7), (9, 3)
        """
        alive, counts = trials, []
        for epoch in (*self.rungs, self.max_epochs):
            counts.append((epoch, alive))
            alive = max(1, -(-alive // self.reduction))
        return counts

    def outlook(self, trials: int) -> str:
        steps = ", ".join(f"{alive} to epoch {epoch}" for epoch, alive in self.survivors(trials))
        return f"; early stopping leaves about {steps}"


MEDIAN_TRIALS = 5  # the median of fewer says little; as in Optuna's MedianPruner


@dataclass(frozen=True)
class Median:
    """Median stopping: a trial ends if its best value so far is below the median of the others' running averages.

    The running average of a trial at epoch s is the mean of its values at the epochs 1 to s. No trial is stopped
    before the epoch `grace`, nor while fewer than MEDIAN_TRIALS others have reached the epoch.

    Source:
        Golovin et al., Google Vizier (KDD 2017), section 3.2.2. Differs in reading every trial that has reached the
        epoch where the paper reads completed ones: a median over survivors would tighten with each stop. With
        several objectives "below the median" is "more than half rank higher" (see `learning_curves.rank`), and
        the best value so far is taken objective by objective.
    """

    grace: int
    max_epochs: int
    rungs: tuple[int, ...] = ()

    @property
    def first(self) -> int | None:
        return self.grace if self.grace < self.max_epochs else None

    def looks_at(self, epoch: int) -> Sequence[int]:
        return range(1, epoch + 1) if self.grace <= epoch < self.max_epochs else ()

    def stops(self, epoch: int, place: Place, own: Curve, others: LearningCurves) -> bool:
        if others.count(epoch) < MEDIAN_TRIALS:
            return False
        best: Point = tuple(max(values) for values in zip(*own.values(), strict=True))
        return others.most_average_above(epoch, best)

    def fewest_epochs(self, trials: int) -> int:
        """Return the epochs if all trials are stopped as soon as the rule allows it.

        Example:
            20 trials of 9 epochs, grace 1: 5 * 9 + 15 * 1 = 60
        """
        free = min(trials, MEDIAN_TRIALS)
        return free * self.max_epochs + (trials - free) * min(self.grace, self.max_epochs)

    def outlook(self, trials: int) -> str:
        grace = min(self.grace, self.max_epochs)
        return f"; from epoch {grace} on those below the median are stopped, before epoch {self.max_epochs}"


@dataclass(frozen=True)
class NoStopping:
    """Every trial trains to the end."""

    max_epochs: int
    rungs: tuple[int, ...] = ()

    @property
    def first(self) -> int | None:
        return None

    def looks_at(self, epoch: int) -> Sequence[int]:
        return ()

    def stops(self, epoch: int, place: Place, own: Curve, others: LearningCurves) -> bool:
        return False

    def fewest_epochs(self, trials: int) -> int:
        return trials * self.max_epochs

    def outlook(self, trials: int) -> str:
        return f", each to epoch {self.max_epochs}"


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler: what decides which trials are stopped early.

    Attributes:
        name: as `--scheduler` and studies say it.
        stops: when a trial is stopped, for the table of docs/search.md.
        use: what it is good for, for that table.
        make: of (first rung, reduction, max epochs) of the study.
    """

    name: str
    stops: str
    use: str
    make: Callable[[int, int, int], Schedule]


SCHEDULERS = Registry(
    "scheduler",
    [
        SchedulerSpec(
            "asha",
            "at the epochs `first_rung * reduction**k` below the last, unless among the best 1/`reduction` of all that "
            "got there (Li et al. 2020)",
            "most studies: saves the most",
            lambda first, reduction, most: Halving(rungs(first, reduction, most), reduction, most),
        ),
        SchedulerSpec(
            "median",
            "after any epoch from `first_rung` on if its best value so far is below the median of the running"
            f" averages of the others at that epoch, once {MEDIAN_TRIALS} others have reached it"
            " (Golovin et al. 2017)",
            "curves that cross late; a gentler rule that keeps about half",
            lambda first, reduction, most: Median(first, most),
        ),
        SchedulerSpec(
            "none",
            "never",
            "short trainings; every trial's full curve",
            lambda first, reduction, most: NoStopping(most),
        ),
    ],
)


def schedule(name: str, first_rung: int, reduction: int, max_epochs: int) -> Schedule:
    """Return the rule of that name for a study.

    Raises:
        InputError: there is no scheduler of that name.
    """
    return SCHEDULERS[name].make(first_rung, reduction, max_epochs)
