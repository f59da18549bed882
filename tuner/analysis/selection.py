"""Which of the finished trials is the best one: objectives as a point, floors, the winner."""

from collections.abc import Callable, Mapping, Sequence

from search_spaces.study import Floor, Objective
from tuner.base.records import State, TrialRecord
from tuner.search.learning_curves import Point


def point_of(objectives: Sequence[Objective], metrics: Mapping[str, float]) -> Point:
    """Return the objectives' values with their signs turned so that larger is better."""
    return tuple(metrics[o.metric] if o.direction == "maximize" else -metrics[o.metric] for o in objectives)


def feasible(record: TrialRecord, floors: Sequence[Floor], reference: Mapping[str, float]) -> bool:
    """Return whether a trial is complete and meets every floor."""
    return record.state is State.COMPLETE and all(
        record.last[f.metric] >= f.bound(reference.get(f.metric)) - 1e-9 for f in floors
    )


def best(
    records: Sequence[TrialRecord],
    point: Callable[[Mapping[str, float]], Point],
    feasible: Callable[[TrialRecord], bool],
) -> TrialRecord | None:
    """Return the finished, feasible trial whose first objective is largest; ties go to the earlier one."""
    candidates = [r for r in records if r.state is State.COMPLETE and feasible(r)]
    return max(candidates, key=lambda r: (point(r.last)[0], -r.number), default=None)
