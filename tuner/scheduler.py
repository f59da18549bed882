"""When a trial stops: pure functions of the stored history, so a resume decides as if nothing had happened."""

import math
from collections.abc import Mapping, Sequence

from tuner.records import Decision

Point = tuple[float, ...]  # one value per objective, larger is better


def rungs(first: int, reduction: int, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: first * reduction**k below max_epochs.

    Example:
        first 1, reduction 3, max 9 -> (1, 3); first 1, reduction 3, max 10 -> (1, 3, 9)
    """
    found, epoch = [], first
    while epoch < max_epochs:
        found.append(epoch)
        epoch *= reduction
    return tuple(found)


def decide(
    epoch: int, point: Point, others: Mapping[int, Sequence[Point]], max_epochs: int, reduction: int
) -> Decision:
    """Return what happens to a trial that has just finished `epoch`.

    Asynchronous successive halving, stopping form: at a rung the trial goes on if it is among the best
    1/reduction (rounded up) of all that have reached the rung so far, itself included.

    Args:
        epoch: from 1.
        point: the trial's objectives, larger is better.
        others: {rung: points of the other trials there}; its keys are the rungs.
        max_epochs: the end of the schedule.

    Source:
        Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020). Differs in stopping where the
        paper pauses, and for several objectives in ranking by non-dominated fronts (Schmucker et al. 2021).

    Example:
        reduction 3, others at rung 1: .9, .8, .5; a trial with .85 is second of four; ceil(4/3) = 2 go on.
    """
    if epoch >= max_epochs:
        return Decision.DONE
    if epoch not in others:
        return Decision.CONTINUE
    rivals = list(others[epoch])
    keep = math.ceil((len(rivals) + 1) / reduction)
    return Decision.CONTINUE if rank(point, rivals) < keep else Decision.PRUNE


def rank(point: Point, rivals: Sequence[Point]) -> int:
    """Return how many rivals stand strictly before the point.

    One objective: those with a larger value. Several: those in an earlier non-dominated front; within a front
    those with a larger sum of per-objective ranks, so that fronts do not make every trial survive.
    """
    if len(point) == 1:
        return sum(rival[0] > point[0] for rival in rivals)
    everyone = [point, *rivals]
    fronts = front_numbers(everyone)
    order = [(-fronts[i], _borda(everyone[i], everyone)) for i in range(len(everyone))]
    return sum(other > order[0] for other in order[1:])


def _borda(point: Point, everyone: Sequence[Point]) -> int:
    return sum(sum(other[k] < point[k] for other in everyone) for k in range(len(point)))


def dominates(a: Point, b: Point) -> bool:
    """Return whether a is at least as good everywhere and better somewhere."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def front_numbers(points: Sequence[Point]) -> list[int]:
    """Return the non-dominated front of each point, 0 = Pareto front."""
    fronts = [-1] * len(points)
    left, number = set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for i in front:
            fronts[i] = number
        left, number = left - front, number + 1
    return fronts
