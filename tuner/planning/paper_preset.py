"""Puts the setting of a method's authors over a study (`--preset`): only what they went over is searched."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces.domain import Choice, Domain, Setting
from search_spaces.paper_setting import EPOCHS, PaperPreset, PaperSetting, shown
from search_spaces.study import Arm, Profile, Study, searched
from trainables.options.methods import known_options
from tuner.base.errors import UsageError
from tuner.planning.chosen_study import with_arms
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.radius_settings import methods_of
from tuner.planning.space_overrides import key_values


def with_preset(
    study: Study, profile: Profile, preset: PaperPreset, options: LaunchOptions
) -> tuple[Study, Profile]:
    """Return a study and its profile with the authors' setting, and with the arms that have one.

    Raises:
        UsageError: `--set` does not give what the preset needs.
    """
    given = key_values(options.settings, "lr=0.001")
    for key, what in preset.needs.items():
        if key not in given:
            raise UsageError(f"--preset {preset.name} needs --set {key}=..., {what}")
    # one training takes one value; a study each of those that the authors went over
    settings = preset.space(searched=not options.train)
    arms = tuple(_arm(arm, settings, preset) for arm in study.arms if arm.name in preset.arms)
    left = with_arms(replace(study, profiles=(profile,)), arms)
    known = known_options(methods_of(left))
    (profile,) = left.profiles
    claim = preset.claim if study.claim else ""  # one training has none
    return replace(left, claim=claim), replace(
        profile,
        settings={**profile.settings, **{key: value for key, value in settings.items() if key in known}},
        max_epochs=preset.epochs,
        validation={**profile.validation, **preset.evaluation("validation")},
        protocol={**profile.protocol, **preset.evaluation("protocol")},
        arms=(),
    )


def _arm(arm: Arm, settings: Mapping[str, Setting], preset: PaperPreset) -> Arm:
    """Return an arm with its published values; it has a search of its own only if ranges are left."""
    overrides = {**arm.overrides, **preset.overrides(arm.name)}
    space = {key: value for key, value in settings.items() if key not in arm.drop} | overrides
    return replace(
        arm, overrides=overrides, search=arm.search and bool(searched(space)), about=preset.arms[arm.name]
    )


def size_and_sampler(ranges: Mapping[str, Domain], trials: int, sampler: Any) -> tuple[int, Any]:
    """Return how many trials a lane has and what chooses them.

    Args:
        ranges: what is searched: what the authors went over, and what `--set` opens.
        trials, sampler: the study's.

    Returns:
        One trial where nothing is searched, one for each of listed values, the study's for ranges.
    """
    if not ranges:
        return 1, "random"
    listed = [domain for domain in ranges.values() if isinstance(domain, Choice)]
    if len(listed) < len(ranges):
        return trials, sampler
    return math.prod(len(domain.options) for domain in listed), "grid"


def deviations(preset: PaperPreset, space: Mapping[str, Setting], epochs: int) -> tuple[str, ...]:
    """Return where a plan is not as published, one line each: field, theirs, ours, why.

    Args:
        space: the study's, with `--set` applied.
    """
    lines = (_deviation(setting, space, epochs) for setting in preset.settings)
    return tuple(filter(None, lines))


def _deviation(setting: PaperSetting, space: Mapping[str, Setting], epochs: int) -> str:
    if not setting.option or setting.arm or setting.evaluation:
        return setting.deviation
    here = epochs if setting.field == EPOCHS else space.get(setting.key)
    if here in (setting.ours, setting.tuned):
        return setting.deviation
    flag = "--max-epochs" if setting.field == EPOCHS else "--set"
    return f"{setting.field}: theirs {setting.theirs}; here {shown(here)}: {flag}"
