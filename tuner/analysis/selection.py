"""Which epoch of a trial and which finished trial of a search is the best: objectives, floors, ranking, the winner."""

import math
from collections.abc import Container, Mapping, Sequence

from search_spaces.study import Floor, Objective
from tuner.base.records import State, TrialRecord
from tuner.search.learning_curves import Point


def point_of(objectives: Sequence[Objective], metrics: Mapping[str, float]) -> Point:
    """Return the objectives' values with their signs turned so that larger is better."""
    return tuple(metrics[o.metric] if o.direction == "maximize" else -metrics[o.metric] for o in objectives)


def best_epoch(
    record: TrialRecord,
    candidates: Container[int],
    objective: Objective,
    floors: Sequence[Floor],
    reference: Mapping[str, float],
) -> int:
    """Return the epoch after which a trial was best, 0 if none of the candidates has been validated.

    Epochs that meet the floors come before those that do not, then the objective decides; ties go to the later.
    """
    best, rank = 0, (False, -math.inf)
    for epoch, entry in sorted(record.history.items()):
        if epoch not in candidates or objective.metric not in entry.metrics:
            continue
        own = meets(floors, entry.metrics, reference), point_of((objective,), entry.metrics)[0]
        if own >= rank:
            best, rank = epoch, own
    return best


def is_feasible(record: TrialRecord, floors: Sequence[Floor], reference: Mapping[str, float]) -> bool:
    """Return whether a trial is complete and meets every floor.

    Args:
        reference: the pretrained classifier's validation metrics.
    """
    return record.state is State.COMPLETE and meets(floors, record.judged, reference)


def meets(floors: Sequence[Floor], metrics: Mapping[str, float], reference: Mapping[str, float]) -> bool:
    """Return whether metrics reach every floor."""
    return all(reaches(metrics[f.metric], f.bound(reference.get(f.metric))) for f in floors)


def reaches(value: float, bound: float) -> bool:
    """Return whether a value is at least a bound, but for rounding."""
    return value >= bound - 1e-9


def best_feasible(
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    floors: Sequence[Floor],
    reference: Mapping[str, float],
) -> TrialRecord | None:
    """Return the feasible trial that is best in the first objective; ties go to the earlier one."""
    candidates = [r for r in records if is_feasible(r, floors, reference)]
    return next(iter(ranked(candidates, objectives[0])), None)


def ranked(records: Sequence[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Return trials from best to worst; those without a value come last, ties go by number."""
    return sorted(records, key=lambda record: (cost_of(record, objective), record.number))


def cost_of(record: TrialRecord, objective: Objective) -> float:
    """Return what a trial is judged by, with its sign turned so that smaller is better; without a value, inf."""
    value = record.judged.get(objective.metric, math.nan)
    if math.isnan(value):
        return math.inf
    return -value if objective.direction == "maximize" else value
