"""The study that launch options ask for: a shipped one, or one made of a method alone, with the arms chosen."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces.domain import Choice, Domain, Int, Setting, Value
from search_spaces.study import Arm, Objective, Space, Study, searched
from trainables.base.errors import unknown
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.datasets import DATASETS
from trainables.evaluation.metrics.protocol import epsilon_name
from trainables.options import fields_of
from trainables.options.methods import METHODS, MethodSpec, known_options
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.own_study import find_study, name_of_study
from tuner.planning.radius_settings import methods_of
from tuner.planning.user_code import name_own_code


def chosen_study(options: LaunchOptions) -> Study:
    """Return the study of `--study` or `--method`, with the arms of `--arms`; of `--train` without arms and claim.

    Raises:
        SpaceError, InputError: an unknown study, method, data set or arm.
    """
    name_own_code(options)
    study = method_study(options.method) if options.method else find_study(options.study)
    if options.train:
        return replace(with_arms(study, ()), claim="")
    if options.arms is None:
        return study
    names = [arm.name for arm in study.arms]
    for name in options.arms:
        if name not in names:
            raise UsageError(
                f"--arms: {unknown('arm', name, names) if names else f'{study.name} has no arms'}"
            )
    return with_arms(study, tuple(arm for arm in study.arms if arm.name in options.arms))


def with_arms(study: Study, arms: tuple[Arm, ...]) -> Study:
    """Return a study with some of its arms, without the settings that only a method of the others has."""
    left = replace(study, arms=arms)
    unused = _keys(study) - _keys(left)

    def kept(space: Space) -> dict[str, Setting]:
        return {key: value for key, value in space.items() if key not in unused}

    profiles = tuple(replace(profile, settings=kept(profile.settings)) for profile in study.profiles)
    return replace(left, space=kept(study.space), profiles=profiles)


def _keys(study: Study) -> set[str]:
    return set(known_options(methods_of(study)))


def study_name(options: LaunchOptions) -> str:
    """Return the name of the study that `chosen_study` returns."""
    name_own_code(options)
    return name_of_method(METHODS[options.method].name) if options.method else name_of_study(options.study)


def name_of_method(method: str) -> str:
    """Return the name of the study that a method has when it is run without one; no shipped study has it.

    A method of the user's own counts by the name that it has in its file.
    """
    return f"method-{method.rpartition(':')[2]}"


def method_study(method: str) -> Study:
    """Return a study of one method: every option at its default, judged by clean accuracy, without arms.

    The defaults suit the built-in digits; for other data the study is fitted like any other. The radius of its attack
    is that of the data set.

    Raises:
        InputError: an unknown method.
    """
    spec = METHODS[method]
    known = fields_of(spec.options)
    data = DATASETS[known["dataset"][2]]
    robust, ood = (epsilon_name(each[0]) for each in (data.robust_epsilons, data.ood_epsilons))
    return Study(
        name=name_of_method(spec.name),
        question=f"Which settings of {spec.name} are best?",
        claim="",
        source="",
        method=spec.name,
        dataset=data.name,
        space=_radius(spec, known, data),
        objectives=(Objective("val/accuracy/clean"),),
        headline=(
            "test/accuracy/clean",
            f"test/accuracy/robust_{robust}",
            "test/auroc/near",
            "test/auroc/far",
            f"test/robust_auroc_{ood}/near",
            "test/accuracy/corrupted",
        ),
        max_epochs=known["epochs"][2],
        validation={"score": spec.score, "groups": ("clean", "ood")},
        protocol={"score": spec.score},
    )


def _radius(spec: MethodSpec, known: Mapping[str, Any], data: DatasetSpec) -> dict[str, Setting]:
    if "attack.epsilon" not in known:
        return {}
    attacks_outliers = "outliers.sigma" in known
    return {"attack.epsilon": (data.ood_epsilons if attacks_outliers else data.robust_epsilons)[0]}


def refuse_ranges(study: Study, space: Mapping[str, Setting]) -> None:
    """Raise UsageError if a space leaves a parameter of the study's method open: `--train` has no search."""
    known = fields_of(METHODS[study.method].options)
    ranges = {key: domain for key, domain in searched(space).items() if key in known}
    if ranges:
        words = " ".join(f"--set {key}={example_value(d, known[key][2])}" for key, d in ranges.items())
        raise UsageError(
            f"--train needs one value for {', '.join(ranges)}, which {study.name} searches; for example: {words}"
        )


def refuse_nothing_to_search(study: Study, space: Mapping[str, Setting]) -> None:
    """Raise UsageError if a method alone is to be searched, and no range is given."""
    if not searched(space):
        raise UsageError(
            f"--method {study.method} has nothing to search; give a range, for example "
            "--set 'lr=loguniform(1e-4, 1e-2)', or train one configuration with --train"
        )


def example_value(domain: Domain, default: Value) -> Value:
    """Return a value of a domain: the option's default if it is in there, else the middle (of a choice the first)."""
    if default in domain:
        return default
    if isinstance(domain, Choice):
        return domain.options[0]
    middle = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
    rounded = int(middle) if isinstance(domain, Int) else float(f"{middle:.2g}")
    return rounded if rounded in domain else middle
