"""Training methods and their Ray Trainables, found by name; importing this package imports nothing heavy."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from trainables.base.errors import InputError
from trainables.options import unknown


@dataclass(frozen=True)
class Entry:
    """Where a method lives: its options (torch-free), its PyTorch class, its Ray Trainable."""

    method: str
    options: str
    trainable: str

    def load_options(self) -> type[Any]:
        return _load(self.options)

    def load_method(self) -> type[Any]:
        return _load(self.method)

    def load_trainable(self) -> type[Any]:
        return _load(self.trainable)


def _load(path: str) -> type[Any]:
    module, name = path.split(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def _entry(file: str, stem: str, options: str) -> Entry:
    return Entry(
        method=f"trainables.methods.{file}:{stem}",
        options=f"trainables.options.{options}",
        trainable=f"trainables.ray.shells:{stem}Trainable",
    )


METHODS: dict[str, Entry] = {
    "standard": _entry("standard", "Standard", "classifiers:StandardOptions"),
    "oe": _entry("outlier_exposure", "OE", "classifiers:OEOptions"),
    "aoe": _entry("aoe", "AOE", "classifiers:AOEOptions"),
    "energy": _entry("energy", "Energy", "energy:EnergyOptions"),
    "ant": _entry("ant", "ANT", "ant:ANTOptions"),
    "noise_augment": _entry("noise_augment", "NoiseAugment", "ant:NoiseAugmentOptions"),
    "robgan": _entry("robgan", "RobGAN", "robgan:RobGANOptions"),
    "dyart": _entry("dyart", "DyART", "dyart:DyARTOptions"),
    "pgd_at": _entry("adversarial", "PGDAT", "adversarial:PGDATOptions"),
    "trades": _entry("adversarial", "TRADES", "adversarial:TRADESOptions"),
    "mart": _entry("adversarial", "MART", "adversarial:MARTOptions"),
}


def get(name: str) -> Entry:
    """Return the entry of a method, or raise InputError with the nearest known name."""
    if name not in METHODS:
        raise InputError(unknown("method", name, METHODS))
    return METHODS[name]


def __getattr__(name: str) -> Any:
    """Give `from trainables import AOETrainable` without importing Ray until somebody asks."""
    for entry in METHODS.values():
        if entry.trainable.endswith(f":{name}"):
            return entry.load_trainable()
    raise AttributeError(f"module 'trainables' has no attribute {name!r}")
