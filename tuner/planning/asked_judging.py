"""Objectives and floors of the command line in place of the study's, and whether validation can measure them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces.study import Floor, Objective
from trainables.base.errors import nearest
from trainables.data.types.radii import Radii, radius_text
from trainables.evaluation.metrics.metric_family import MEANS
from trainables.evaluation.metrics.metric_specs import Metric, find_metric
from trainables.evaluation.metrics.protocol import EvaluationProtocol, epsilon_name
from tuner.base.errors import UsageError
from tuner.planning.judging import FIELDS, Judging, at_every_radius, radii_for


def judged_by(
    judging: Judging,
    objectives: Sequence[str],
    floors: Sequence[Floor | None],
    radii: Radii,
    ood_sets: Mapping[str, Sequence[str]],
    validation_ood: Sequence[str] | None,
) -> Judging:
    """Return the judging with other objectives and floors, which validation measures and the headline begins with.

    Args:
        objectives: names of validation metrics; () keeps the study's.
        floors: () keeps the study's, (None,) has none.
        ood_sets: {"near" and "far": OOD test sets that are there}; {} where that is not known.
        validation_ood: names of the OOD sets that validation reads; None where they are not known.

    Raises:
        UsageError: a metric that validation cannot measure, or not at this radius.
    """
    if None in floors and len(floors) > 1:
        raise UsageError("--floor none goes with no other --floor")
    for flag, name in (
        *(("--objective", name) for name in objectives),
        *(("--floor", floor.metric) for floor in floors if floor is not None),
    ):
        metric = find_metric(name)
        _check_measurable(flag, metric, radii, validation_ood)
        judging = replace(judging, validation=_measuring(judging.validation, metric, radii))
    if objectives:
        chosen = tuple(Objective(name, str(find_metric(name).spec.direction)) for name in objectives)
        tested = [_test_name(name, ood_sets) for name in objectives]
        tested += [other for name in tested for other in at_every_radius(name, radii)]
        judging = replace(
            judging, objectives=chosen, headline=tuple(dict.fromkeys([*tested, *judging.headline]))
        )
    if floors:
        judging = replace(judging, floors=tuple(floor for floor in floors if floor is not None))
    return judging


def _check_measurable(flag: str, metric: Metric, radii: Radii, validation_ood: Sequence[str] | None) -> None:
    spec, parameters = metric.spec, metric.parameters
    if not spec.validated:
        raise UsageError(
            f"{flag} {metric.name}: it is measured on the tests alone, which a search never sees"
        )
    if "score" in parameters:
        own = metric.name.replace(f"{parameters['score']}/", "", 1)
        raise UsageError(
            f"{flag} {metric.name}: validation measures the study's own score alone; write {own}"
        )
    ood = parameters.get("set", "all")
    if ood == "unknown":
        raise UsageError(
            f"{flag} {metric.name}: the unknown classes are test data; write one of {_means(metric)}"
        )
    if ood not in MEANS and validation_ood is not None and ood not in validation_ood:
        known = nearest(ood, [*validation_ood, *MEANS])
        raise UsageError(f"{flag} {metric.name}: validation has no OOD set {ood!r}; {known}")
    if ood not in MEANS and "auroc" not in spec.name:
        raise UsageError(
            f"{flag} {metric.name}: validation measures means over OOD sets; write one of {_means(metric)}"
        )
    if "epsilon" in parameters:
        measured = radii_for(metric, radii)
        if parameters["epsilon"] not in map(epsilon_name, measured):
            names = ", ".join(_both_ways(radius) for radius in measured)
            raise UsageError(
                f"{flag} {metric.name}: nothing is attacked at {parameters['epsilon']}, but at {names}; "
                f"add --eval-epsilon {parameters['epsilon']}"
            )


def _means(metric: Metric) -> str:
    family = metric.name.rpartition("/")[0]
    return ", ".join(f"{family}/{group}" for group in MEANS)


def _measuring(validation: Mapping[str, Any], metric: Metric, radii: Radii) -> dict[str, Any]:
    """Return the fields of a validation that measures a metric too."""
    values, group = dict(validation), metric.spec.group
    defaults = EvaluationProtocol("validation")
    measured = group in values.get("groups", defaults.groups)
    more: dict[str, tuple[Any, ...]] = {"groups": (group,)}
    if "epsilon" in metric.parameters:
        asked = metric.parameters["epsilon"]
        radius = next(e for e in radii_for(metric, radii) if epsilon_name(e) == asked)
        more[FIELDS[group]] = (radius,)
    if "side" in metric.parameters:
        more["ood_sides"] = (metric.parameters["side"],)
    for field, items in more.items():
        # of a group that was not measured, the radii by default are none that anybody asked for
        present = values.get(
            field, () if field == FIELDS.get(group) and not measured else getattr(defaults, field)
        )
        values[field] = tuple(dict.fromkeys([*present, *items]))
    return values


def _test_name(name: str, ood_sets: Mapping[str, Sequence[str]]) -> str:
    """Return the test metric of a validation metric; of a mean over near or all OOD sets, that over the near ones.

    Where the user gives far test sets and no near ones, it is the mean over the far ones.
    """
    test = f"test/{name.removeprefix('val/')}"
    if find_metric(name).parameters.get("set") not in ("near", "all"):
        return test
    far = ood_sets and not ood_sets.get("near") and ood_sets.get("far")
    return f"{test.rpartition('/')[0]}/{'far' if far else 'near'}"


def _both_ways(radius: float) -> str:
    """Return a radius as it is written and, if that differs, as metrics name it: "8/255 (0.03137)", "0.15"."""
    text, name = radius_text(radius), epsilon_name(radius)
    return text if text == name else f"{text} ({name})"
