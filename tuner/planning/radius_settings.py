"""Settings of a study that are radii: they shrink and grow with the radius that its trials are judged at."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.domain import Choice, Float, Setting
from search_spaces.study import Profile, Study
from trainables.data.types.radii import Radii
from trainables.evaluation.metrics.protocol import epsilon_name
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.planning.judging import at_radii, judging_of, new_radii


def profile_at(study: Study, profile: Profile, radii: Radii) -> Profile:
    """Return a profile that is judged at these radii; its settings that are radii change with the first of them."""
    judging = judging_of(study, profile)
    moved = at_radii(judging, radii)
    judged = replace(
        profile,
        objectives=moved.objectives,
        floors=moved.floors,
        headline=moved.headline,
        validation=moved.validation,
        protocol=moved.protocol,
    )
    new = new_radii(judging, radii)
    if all(epsilon_name(value) == old for old, value in new.items()):
        return judged
    keys = radius_options(methods_of(study))
    settings = _moved({**study.space, **profile.settings}, new, keys)
    arms = tuple(
        replace(arm, overrides={**arm.overrides, **_moved(arm.overrides, new, keys)})
        for arm in profile.arms or study.arms
    )
    return replace(judged, settings={**profile.settings, **settings}, arms=arms)


def methods_of(study: Study) -> tuple[str, ...]:
    """Return the methods of a study's own trials and of its arms."""
    return tuple(dict.fromkeys([study.method, *(arm.method for arm in study.arms if arm.method)]))


def radius_options(methods: Sequence[str]) -> dict[str, float]:
    """Return {option that is a radius: its default} of some methods; the default of the first that has it."""
    found: dict[str, float] = {}
    for method in methods:
        for key, (field, _, default) in fields_of(METHODS[method].options).items():
            if field.metadata.get("radius"):
                found.setdefault(key, float(default))
    return found


def _moved(
    space: Mapping[str, Setting], new: Mapping[str, float], keys: Mapping[str, float]
) -> dict[str, Setting]:
    """Return the settings that are radii; one that is a radius of the study becomes exactly the new one."""
    first = next(iter(new))
    moved: dict[str, Setting] = {}
    for key, value in space.items():
        if key not in keys:
            continue
        exact = new.get(epsilon_name(value)) if isinstance(value, float) else None
        moved[key] = scaled(value, new[first] / float(first)) if exact is None else exact
    return moved


def scaled(setting: Setting, factor: float) -> Setting:
    """Return a radius, or a range or choice of radii, times a factor: to three digits, at most 1.

    Example:
        loguniform(0.02, 0.25) times 8/255 / 0.1 is loguniform(0.00627, 0.0784)
    """
    if isinstance(setting, Float):
        low, high = _times(setting.low, factor), _times(setting.high, factor)
        return replace(setting, low=low, high=high) if low < high else high
    if isinstance(setting, Choice):
        return Choice(tuple(dict.fromkeys(_times(float(value), factor) for value in setting.options)))
    return _times(float(setting), factor) if isinstance(setting, (int, float)) else setting


def _times(value: float, factor: float) -> float:
    return min(1.0, float(f"{value * factor:.3g}"))
