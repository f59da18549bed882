"""A profile for data that a study has none for, by rule from the size and number of its images.

A study's own values suit the data set that it was written for, mostly the built-in digits of 8 x 8 pixels. On other
data radii, network, augmentation, batch size and schedule come from here, and a floor is relative to the pretrained
classifier. docs/choosing_radii.md explains the choices.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.domain import Domain, Float, Setting
from search_spaces.study import Arm, Floor, Profile, Study
from trainables.data.loading.data_facts import DataFacts
from trainables.data.types.datasets import DATASETS
from trainables.data.types.radii import Radii, radii_of, radius_text
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.options import fields_of
from trainables.options.methods import METHODS, known_options
from tuner.planning.radius_settings import methods_of, profile_at, radius_options, scaled

ACCURACY_LOSS = 0.2  #: a floor with a value of its own becomes the pretrained classifier's minus this
FEW, MANY, VAST = 1_000, 10_000, 100_000  #: training images
SMALL_NETWORK = 5_000  #: fewer training images get a small network
OUTLIER_VALUES = 50_000_000  #: numbers that the outliers of a trial may have: 200 MB
DIGITS = radii_of("digits").accuracy[0]  #: the radius that the defaults of the methods' options suit


@dataclass(frozen=True)
class Choice:
    """What was chosen: an option or a part of the plan, its value, and why."""

    what: str
    value: Any
    why: str

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else self.value
        return f"{value} ({self.why})"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimizer, weight_decay, pretrain_lr: of the pretraining, and of trials where the study does not search them.
        fine_tuning, from_scratch: learning rates to search.
        decays: weight decays to search, by studies that do.
    """

    optimizer: str
    weight_decay: float
    pretrain_lr: float
    fine_tuning: Float
    from_scratch: Float
    decays: Float


_SGD = Recipe("sgd", 5e-4, 0.1, Float(1e-5, 1e-2, True), Float(0.01, 0.2, True), Float(1e-4, 1e-3, True))
_ADAM = Recipe("adam", 1e-5, 1e-3, Float(1e-5, 1e-2, True), Float(3e-4, 1e-2, True), Float(1e-6, 1e-3, True))
#: Those of the CIFAR, ImageNet and Food-101 profiles; `small_cnn`, the digits' own, has what the studies say.
RECIPES = {
    "preact_resnet18": _SGD,
    "resnet50": replace(_SGD, weight_decay=1e-4),
    "mobilenet_v3_small": _ADAM,
    "mobilenet_v3_large": _ADAM,
}


def suits(study: Study, dataset: str) -> bool:
    """Return whether a study's own values are meant for a data set: its own, or one of equal images and radii."""
    own, other = DATASETS[study.dataset], DATASETS[dataset]
    alike = all(
        getattr(own, fact) == getattr(other, fact) for fact in ("shape", "robust_epsilons", "ood_epsilons")
    )
    return dataset == study.dataset or (alike and other.num_classes > 0)


def fitted_profile(study: Study, facts: DataFacts, radii: Radii) -> tuple[Profile, dict[str, str]]:
    """Return the profile of a study for some data, and {what was chosen: its value and why}."""
    methods = methods_of(study)
    known = known_options(methods)
    training = [choice for choice in _training(study, facts, methods) if choice.what in known]
    epochs, trials = _epochs(study, facts, methods), _trials(study, facts)
    settings = {choice.what: choice.value for choice in training}
    profile = profile_at(
        study,
        Profile(
            facts.name,
            settings=settings,
            max_epochs=epochs.value,
            trials=trials.value,
            floors=tuple(map(_relative, study.floors)),
            headline=tuple(filter(_on_any_data, study.headline)),
            arms=tuple(_with_settings(arm, settings) for arm in study.arms),
        ),
        radii,
    )
    scaled_ones = _radii(study, profile, methods, radii)
    elsewhere = {key: value for key, value in study.elsewhere.items() if key in known}
    own = [Choice(k, value, "the study's, on other data than its own") for k, value in elsewhere.items()]
    settings = {**profile.settings, **{choice.what: choice.value for choice in (*scaled_ones, *own)}}
    choices = [_radius(facts, radii), *training, *scaled_ones, *own, epochs, trials, *_floors(study, profile)]
    return replace(profile, settings=settings), {choice.what: str(choice) for choice in choices}


# -- the rules ---------------------------------------------------------------------------------------------


def _radius(facts: DataFacts, radii: Radii) -> Choice:
    accuracy, score = (", ".join(map(radius_text, each)) for each in (radii.accuracy, radii.score))
    value = accuracy if accuracy == score else f"{accuracy}; on the outlier score {score}"
    own = radii == radii_of(facts.name, facts.shape)
    by_size = (
        f"images of {facts.side} pixels" if not DATASETS[facts.name].robust_epsilons else "the data set's"
    )
    return Choice("radius", value, by_size if own else "--eval-epsilon")


def _training(study: Study, facts: DataFacts, methods: Sequence[str]) -> list[Choice]:
    """Return network, augmentation, batch size, optimiser and rates, of the trials and of the pretraining."""
    network = _network(facts)
    count = f"{facts.train_images:,} training images" if facts.train_images else "an unknown number of images"
    batch = Choice("batch_size", _batch_size(facts), f"{count} of {facts.side} pixels")
    augment = Choice(
        "augment",
        "crop_flip" if facts.mirrors else "crop",
        "cut and mirrored" if facts.mirrors else "cut, and not mirrored: that would be another class",
    )
    epochs = Choice("pretrain.epochs", 30 if facts.train_images >= MANY else 40, count)
    choices = [network, batch, augment, epochs]
    if network.value in RECIPES:
        choices += _recipe(study, network.value, methods)
    choices += [replace(c, what=f"pretrain.{c.what}") for c in (batch, augment)]
    values = math.prod(facts.shape)
    outliers = study.space.get("outliers.count", 1000)
    if isinstance(outliers, int) and outliers * values > OUTLIER_VALUES:
        fits = OUTLIER_VALUES // values
        choices.append(Choice("outliers.count", fits, f"{values:,} numbers each, 200 MB in all"))
    return choices


def _network(facts: DataFacts) -> Choice:
    small = facts.train_images < SMALL_NETWORK
    if facts.side <= 64 and small:
        name = "small_cnn"
    elif facts.side <= 128 and not small:
        name = "preact_resnet18"
    elif small:
        name = "mobilenet_v3_small"
    else:
        name = "resnet50" if facts.train_images >= VAST else "mobilenet_v3_large"
    count = f"fewer than {SMALL_NETWORK:,}" if small else f"{SMALL_NETWORK:,} or more"
    return Choice("network", name, f"images of {facts.side} pixels, {count} to train on")


def _batch_size(facts: DataFacts) -> int:
    if 0 < facts.train_images < FEW:
        return 32
    return 128 if facts.train_images >= MANY and facts.side <= 128 else 64


def _recipe(study: Study, network: str, methods: Sequence[str]) -> list[Choice]:
    """Return optimiser, learning rate and weight decay of a network: ranges where the study searches them."""
    recipe, why = RECIPES[network], f"usual for {network}"
    fine, full = (any(_fine_tunes(m) is kind for m in methods) for kind in (True, False))
    low = recipe.fine_tuning.low if fine else recipe.from_scratch.low
    high = recipe.from_scratch.high if full else recipe.fine_tuning.high
    middle = recipe.pretrain_lr if full else float(f"{math.sqrt(low * high):.1g}")
    rates = [space.get("lr") for space in (study.space, *(arm.overrides for arm in study.arms))]
    searched = any(isinstance(rate, Domain) for rate in rates)
    decays = isinstance(study.space.get("weight_decay"), Domain)
    return [
        Choice("optimizer", recipe.optimizer, why),
        Choice("lr", Float(low, high, log=True) if searched else middle, why),
        Choice("weight_decay", recipe.decays if decays else recipe.weight_decay, why),
        Choice("pretrain.optimizer", recipe.optimizer, why),
        Choice("pretrain.lr", recipe.pretrain_lr, why),
        Choice("pretrain.weight_decay", recipe.weight_decay, why),
    ]


def _fine_tunes(method: str) -> bool | None:
    """Return whether a method starts from the pretrained classifier and only adapts it; None if it has no such rate."""
    options = fields_of(METHODS[method].options)
    return options["schedule"][2] == "cosine" if "lr" in options else None


def _epochs(study: Study, facts: DataFacts, methods: Sequence[str]) -> Choice:
    """Return the length of a trial: with few images an epoch has few steps, and large networks learn for longer."""
    n, most = facts.train_images, study.max_epochs
    if 0 < n < FEW:
        return Choice("epochs", 2 * most, f"the study's {most} twice: fewer than {FEW:,} images")
    if n >= MANY and not _fine_tunes(study.method):
        return Choice("epochs", 2 * most, f"the study's {most} twice: {MANY:,} images or more, from scratch")
    return Choice("epochs", most, "the study's")


def _trials(study: Study, facts: DataFacts) -> Choice:
    if facts.train_images >= VAST and study.trials > 4:
        half = max(4, study.trials // 2)
        return Choice("trials", half, f"half of the study's {study.trials}: {VAST:,} images or more")
    return Choice("trials", study.trials, "the study's")


def _radii(study: Study, profile: Profile, methods: Sequence[str], radii: Radii) -> list[Choice]:
    """Return the settings that are radii: the study's as they were moved, and defaults that suit the digits."""
    factor = radii.accuracy[0] / DIGITS
    choices = []
    for key, default in radius_options(methods).items():
        if key not in study.space:
            choices.append(
                Choice(key, scaled(default, factor), f"the default {default:g}, moved with the radius")
            )
        elif key in profile.settings:
            choices.append(
                Choice(key, profile.settings[key], f"the study's {study.space[key]}, moved with the radius")
            )
    return choices


def _floors(study: Study, profile: Profile) -> list[Choice]:
    return [
        Choice(
            f"floor on {after.metric}",
            after,
            "the study's"
            if after.below_reference == before.below_reference
            else f"in place of {before.at_least:g}",
        )
        for after, before in zip(profile.floors, study.floors, strict=True)
    ]


def _relative(floor: Floor) -> Floor:
    """Return a floor that suits any data: one with a value of its own becomes relative to the pretrained classifier."""
    if floor.below_reference is not None:
        return floor
    return replace(floor, at_least=0.0, below_reference=ACCURACY_LOSS)


def _on_any_data(name: str) -> bool:
    """Return whether any data set may have a test metric: the mean over all near or far OOD sets, say, not a set."""
    return find_metric(name).parameters.get("set", "near") in ("near", "far")


def _with_settings(arm: Arm, settings: Mapping[str, Setting]) -> Arm:
    """Return an arm whose own batch size and learning rates are those that were chosen, if any were."""
    changed = {key: settings[key] for key in arm.overrides if key in ("lr", "batch_size") and key in settings}
    return replace(arm, overrides={**arm.overrides, **changed})
