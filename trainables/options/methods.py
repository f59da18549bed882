"""The training methods by name: their options and their PyTorch class."""

from dataclasses import dataclass
from typing import Any

from trainables.base.registry import Registry, resolve_reference
from trainables.options.adversarial import MARTOptions, PGDATOptions, TRADESOptions
from trainables.options.ant import ANTOptions, NoiseAugmentOptions
from trainables.options.classifiers import AOEOptions, OEOptions, StandardOptions
from trainables.options.dyart import DyARTOptions
from trainables.options.energy import EnergyOptions
from trainables.options.robgan import RobGANOptions


@dataclass(frozen=True)
class MethodSpec:
    """A training method.

    Attributes:
        name: as `--method`, studies and checkpoints say it.
        options: the dataclass of its options.
        method: "module:class" of its `trainables.training.method.Method`; imported on use, because it needs torch.
    """

    name: str
    options: type[Any]
    method: str

    def load_method(self) -> type[Any]:
        return resolve_reference(self.method)

    @property
    def trainable_name(self) -> str:
        """Return the name of its Ray Trainable in `trainables`, such as "AOETrainable"."""
        return f"{self.method.rpartition(':')[2]}Trainable"


def _built_in(name: str, options: type[Any], method: str) -> MethodSpec:
    return MethodSpec(name, options, f"trainables.methods.{method}")


METHODS = Registry(
    "method",
    [
        _built_in("standard", StandardOptions, "standard:Standard"),
        _built_in("oe", OEOptions, "outlier_exposure:OE"),
        _built_in("aoe", AOEOptions, "aoe:AOE"),
        _built_in("energy", EnergyOptions, "energy:Energy"),
        _built_in("ant", ANTOptions, "ant:ANT"),
        _built_in("noise_augment", NoiseAugmentOptions, "noise_augment:NoiseAugment"),
        _built_in("robgan", RobGANOptions, "robgan.robgan:RobGAN"),
        _built_in("dyart", DyARTOptions, "dyart:DyART"),
        _built_in("pgd_at", PGDATOptions, "adversarial:PGDAT"),
        _built_in("trades", TRADESOptions, "adversarial:TRADES"),
        _built_in("mart", MARTOptions, "adversarial:MART"),
    ],
)
