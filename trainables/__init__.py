"""Training methods and their Ray Trainables, found by name; importing this package imports nothing heavy."""

from typing import Any

from trainables.options.methods import METHODS, MethodSpec

__all__ = ["METHODS", "MethodSpec"]


def __getattr__(name: str) -> Any:
    """Give `from trainables import AOETrainable` without importing Ray until somebody asks."""
    for spec in METHODS:
        if name == spec.trainable_name:
            from trainables.ray.trainable import trainable_class

            return trainable_class(spec.name)
    raise AttributeError(f"module 'trainables' has no attribute {name!r}")
