"""The training methods by name: options, PyTorch class, outlier score, and how several trials train side by side."""

from collections.abc import Iterable
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Literal, get_type_hints

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described_type
from trainables.base.registry import Registry, resolve_reference
from trainables.base.schema import fields_of
from trainables.options.adversarial import MARTOptions, PGDATOptions, TRADESOptions
from trainables.options.ant import ANTOptions, NoiseAugmentOptions
from trainables.options.classifiers import AOEOptions, OEOptions, PretrainedOptions, StandardOptions
from trainables.options.common import TrainingOptions
from trainables.options.dyart import DyARTOptions
from trainables.options.energy import EnergyOptions
from trainables.options.robgan import SIDES as ROBGAN_SIDES
from trainables.options.robgan import RobGANOptions


@dataclass(frozen=True)
class PackedTraining:
    """How trials of a method train side by side in one process.

    Attributes:
        step: "module:class" of its `trainables.packed.steps.PackedStep`.
        varies: what may differ between trials of a pack; "x." stands for all options of that group. An option that is
            not listed must be equal: it decides shapes, operations or the number of steps per epoch.
    """

    step: str
    varies: tuple[str, ...]

    def load_step(self) -> type[Any]:
        step: type[Any] = resolve_reference(self.step)
        return step


@dataclass(frozen=True)
class MethodSpec:
    """A training method.

    Attributes:
        name: as `--method`, studies and checkpoints say it; of the user's own code, the reference to it.
        options: the dataclass of its options.
        method: "module:class" of its `trainables.training.method.Method`, imported on use, because it needs torch; or
            the class.
        score: the outlier score by which it is judged: "msp" for methods that flatten the softmax.
        packed: how its trials train side by side; None: each needs a process of its own.
        sides: smallest and largest side of the images that it takes, in pixels.
    """

    name: str
    options: type[Any]
    method: str | type[Any]
    score: Literal["energy", "msp"]
    packed: PackedTraining | None
    sides: tuple[int, int] = (1, 10**9)

    @property
    def about(self) -> str:
        """Return one line on the method: the first of its options' docstring."""
        return (self.options.__doc__ or "").splitlines()[0]

    def load_method(self) -> type[Any]:
        method: type[Any] = resolve_reference(self.method)
        return method

    @property
    def trainable_name(self) -> str:
        """Return the name of its Ray Trainable in `trainables`, such as "AOETrainable"."""
        name = self.method.rpartition(":")[2] if isinstance(self.method, str) else self.method.__name__
        return f"{name}Trainable"


_TRAINING = (
    *("seed", "epochs", "cache_dir", "lr", "momentum", "weight_decay", "schedule", "step_size", "gamma"),
    *("grad_clip", "ema", "pretrain."),
)
_ATTACK = ("attack.epsilon", "attack.steps", "attack.step_scale")
_ADVERSARIAL = (*_TRAINING, *_ATTACK, "attack.widen", "from_pretrained", "speed_images", "speed_radius")
_OUTLIERS = tuple(f"outliers.{name}" for name in ("generator", "sigma", "path", "count", "weight"))
_ENERGY = tuple(f"energy.{name}" for name in ("margins", "m_in_offset", "gap_factor", "m_in", "gap", "lam"))


def known_options(methods: Iterable[str]) -> dict[str, Any]:
    """Return the fields of the options that any of the methods has, as `fields_of` does of one."""
    known: dict[str, Any] = {}
    for method in methods:
        known |= fields_of(METHODS[method].options)
    return known


def own_method(name: str, thing: Any) -> MethodSpec:
    """Return the spec of a `Method` class of the user's own: its options are those that it is annotated with.

    Its class attribute `score` says which outlier score judges it, else the energy.

    Raises:
        InputError: it is no such class, or its options are no dataclass that extends `TrainingOptions`.
    """
    if isinstance(thing, MethodSpec):
        return replace(thing, name=name)
    if not isinstance(thing, type) or not hasattr(thing, "train_epoch"):
        raise InputError(
            f"it is {described_type(thing)}; it must be a class that extends trainables.training.method.Method"
        )
    options = get_type_hints(thing).get("options")
    if not (isinstance(options, type) and is_dataclass(options) and issubclass(options, TrainingOptions)):
        raise InputError(
            f"the options of {thing.__name__} are {described_type(options)}; annotate them with a dataclass that "
            "extends TrainingOptions, as in `options: MyOptions`"
        )
    score: Any = getattr(thing, "score", "energy")
    if score not in ("energy", "msp"):
        raise InputError(f"score of {thing.__name__} is {score!r}; it must be energy or msp")
    return MethodSpec(name, options, thing, score, packed=None)


def _built_in(
    name: str,
    options: type[Any],
    method: str,
    score: Literal["energy", "msp"] = "energy",
    *,
    packed: PackedTraining | None,
    sides: tuple[int, int] = (1, 10**9),
) -> MethodSpec:
    return MethodSpec(name, options, f"trainables.methods.{method}", score, packed, sides)


def _packed(step: str, *varies: str) -> PackedTraining:
    return PackedTraining(f"trainables.packed.steps:{step}", varies)


#: the method that trains nothing: what fine-tuning is compared with
UNTRAINED = "pretrained"

METHODS = Registry(
    "method",
    [
        _built_in(
            "standard",
            StandardOptions,
            "standard:Standard",
            packed=_packed("StandardStep", *_TRAINING, "from_pretrained"),
        ),
        _built_in(UNTRAINED, PretrainedOptions, "pretrained:Pretrained", packed=None),
        _built_in(
            "oe",
            OEOptions,
            "outlier_exposure:OE",
            "msp",
            packed=_packed("OEStep", *_TRAINING, *_OUTLIERS),
        ),
        _built_in(
            "aoe",
            AOEOptions,
            "aoe:AOE",
            "msp",
            packed=_packed(
                "AOEStep",
                *(*_TRAINING, *_OUTLIERS, *_ATTACK, "attack.momentum", "attack.schedule"),
                *("inlier_attack.epsilon", "inlier_attack.steps", "inlier_attack.step_scale"),
            ),
        ),
        _built_in(
            "energy",
            EnergyOptions,
            "energy:Energy",
            packed=_packed("EnergyStep", *_TRAINING, *_OUTLIERS, *_ENERGY),
        ),
        _built_in("ant", ANTOptions, "ant:ANT", packed=None),
        _built_in("noise_augment", NoiseAugmentOptions, "noise_augment:NoiseAugment", packed=None),
        _built_in("robgan", RobGANOptions, "robgan.robgan:RobGAN", packed=None, sides=ROBGAN_SIDES),
        _built_in("dyart", DyARTOptions, "dyart:DyART", packed=None),
        _built_in("pgd_at", PGDATOptions, "adversarial:PGDAT", packed=_packed("PGDATStep", *_ADVERSARIAL)),
        _built_in(
            "trades", TRADESOptions, "adversarial:TRADES", packed=_packed("TRADESStep", *_ADVERSARIAL, "beta")
        ),
        _built_in("mart", MARTOptions, "adversarial:MART", packed=_packed("MARTStep", *_ADVERSARIAL, "beta")),
    ],
    others=OwnSpecs("method", "methods", own_method),
)
