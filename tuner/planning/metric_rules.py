"""Which metrics a study may optimise, require and show: they exist, and their direction and range are respected."""

from collections.abc import Sequence

from search_spaces.study import Floor, Objective
from trainables.base.errors import InputError
from trainables.evaluation.metrics.metric_family import Direction, range_text
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.base.errors import UsageError
from tuner.planning.plan import LanePlan


def check_metrics(objectives: Sequence[Objective], floors: Sequence[Floor], headline: Sequence[str]) -> None:
    """Raise InputError for an unknown metric or one that cannot be used so."""
    for objective in objectives:
        _check_objective(objective)
    for floor in floors:
        _check_floor(floor)
    for metric in headline:
        if find_metric(metric).spec.direction is Direction.NEITHER:
            raise InputError(f"headline {metric} is a diagnostic: it has no better and worse to judge by")


def check_reference(floors: Sequence[Floor], lanes: Sequence[LanePlan]) -> None:
    """Raise UsageError for a floor below the pretrained classifier's value where none is trained or given."""
    for floor in floors:
        if floor.below_reference is None:
            continue
        lane = next((lane for lane in lanes if lane.values("pretrain.epochs")), None)
        if lane is None:
            raise UsageError(
                f"floor {floor}: no method of this study has a pretrained classifier; give a value: {floor.metric}>=0.5"
            )
        if lane.values("pretrain.epochs") == (0,) and lane.values("pretrain.checkpoint") == ("",):
            raise UsageError(
                f"floor {floor}: this study trains no classifier beforehand (pretrain.epochs is 0); add "
                f"--set pretrain.epochs=20, or give a value: {floor.metric}>=0.5"
            )


def _check_objective(objective: Objective) -> None:
    better = find_metric(objective.metric).spec.direction
    if better is Direction.NEITHER:
        raise InputError(f"objective {objective.metric} is a diagnostic: it has no better and worse")
    if objective.direction != better:
        raise InputError(f"objective {objective.metric} is to {objective.direction}; {better} it")


def _check_floor(floor: Floor) -> None:
    spec = find_metric(floor.metric).spec
    if spec.direction is not Direction.MAXIMIZE:
        raise InputError(f"floor {floor}: only a metric of which more is better can have a least value")
    if floor.below_reference is not None and not 0 <= floor.below_reference <= spec.high - spec.low:
        raise InputError(f"floor {floor}: what is subtracted must be from 0 to {spec.high - spec.low:g}")
    if floor.below_reference is None and not spec.low <= floor.at_least <= spec.high:
        raise InputError(f"floor {floor}: the metric is a {spec.unit} in {range_text(spec)}")
