"""What trials are judged by: objectives, floors, headline and protocols of a study, at the radii of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.study import Floor, Objective, Profile, Study
from trainables.data.types.radii import Radii
from trainables.evaluation.metrics.metric_specs import Metric, find_metric
from trainables.evaluation.metrics.protocol import epsilon_name

#: {group of metrics under attack: the field of `Radii` that they are measured at}
RADII = {"robust": "accuracy", "robust_ood": "score"}
#: {group of metrics under attack: the field of the protocol with its radii}
FIELDS = {"robust": "robust_epsilons", "robust_ood": "ood_epsilons"}


@dataclass(frozen=True)
class Judging:
    """What decides which trial is the best, and what the answer shows.

    Attributes:
        objectives, floors: of validation metrics.
        headline: test metrics.
        validation, protocol: fields of `EvaluationProtocol` that are set during search and at the end.
    """

    objectives: tuple[Objective, ...]
    floors: tuple[Floor, ...]
    headline: tuple[str, ...]
    validation: Mapping[str, Any]
    protocol: Mapping[str, Any]


def judging_of(study: Study, profile: Profile) -> Judging:
    """Return what a study with a profile is judged by."""
    return Judging(
        profile.objectives or study.objectives,
        profile.floors or study.floors,
        profile.headline or study.headline,
        {**study.validation, **profile.validation},
        {**study.protocol, **profile.protocol},
    )


def at_radii(judging: Judging, radii: Radii) -> Judging:
    """Return the judging with other radii in the names of its metrics and in its protocols.

    The first radius that the study names becomes the first of `radii`, its second one the second, and so on; the
    headline shows a metric at every radius. Validation measures what objectives and floors name, at least the first.
    """
    order = _radii_named(judging)
    moved = replace(
        judging,
        objectives=tuple(replace(o, metric=_moved(o.metric, order, radii)) for o in judging.objectives),
        floors=tuple(replace(f, metric=_moved(f.metric, order, radii)) for f in judging.floors),
        headline=tuple(dict.fromkeys(n for name in judging.headline for n in at_every_radius(name, radii))),
    )
    return replace(
        moved,
        validation={**judging.validation, **_searched_radii(moved, radii)},
        protocol={**judging.protocol, "robust_epsilons": radii.accuracy, "ood_epsilons": radii.score},
    )


def new_radii(judging: Judging, radii: Radii) -> dict[str, float]:
    """Return {radius as the metrics' names write it: what it becomes}, the first that is named first."""
    found: dict[str, float] = {}
    for group, named in _radii_named(judging).items():
        new = getattr(radii, RADII[group])
        for place, epsilon in enumerate(named):
            found.setdefault(epsilon, new[min(place, len(new) - 1)])
    return found


def at_every_radius(name: str, radii: Radii) -> tuple[str, ...]:
    """Return a metric's name at each radius that it is measured at; a metric without attack as it is."""
    metric = find_metric(name)
    if "epsilon" not in metric.parameters:
        return (name,)
    return tuple(metric.at_radius(epsilon) for epsilon in radii_for(metric, radii))


def radii_for(metric: Metric, radii: Radii) -> tuple[float, ...]:
    """Return the radii that a metric under attack is measured at."""
    found: tuple[float, ...] = getattr(radii, RADII[metric.spec.group])
    return found


def _searched(judging: Judging) -> list[str]:
    return [*(o.metric for o in judging.objectives), *(f.metric for f in judging.floors)]


def _names(judging: Judging) -> list[str]:
    return [*_searched(judging), *judging.headline]


def _radii_named(judging: Judging) -> dict[str, list[str]]:
    """Return {group: radii as its metrics' names write them}, both in the order of their appearance."""
    named: dict[str, list[str]] = {}
    for metric in map(find_metric, _names(judging)):
        epsilon = metric.parameters.get("epsilon")
        if epsilon is not None and epsilon not in named.setdefault(metric.spec.group, []):
            named[metric.spec.group].append(epsilon)
    return named


def _moved(name: str, order: Mapping[str, Sequence[str]], radii: Radii) -> str:
    metric = find_metric(name)
    if "epsilon" not in metric.parameters:
        return name
    new = radii_for(metric, radii)
    place = order[metric.spec.group].index(metric.parameters["epsilon"])
    return metric.at_radius(new[min(place, len(new) - 1)])


def _searched_radii(judging: Judging, radii: Radii) -> dict[str, tuple[float, ...]]:
    """Return the radii of the validation protocol: the first, and those that objectives and floors name."""
    searched = [find_metric(name) for name in _searched(judging)]
    named = {m.parameters["epsilon"] for m in searched if "epsilon" in m.parameters}
    return {
        field: tuple(e for i, e in enumerate(values) if i == 0 or epsilon_name(e) in named)
        for field, values in (("robust_epsilons", radii.accuracy), ("ood_epsilons", radii.score))
    }
