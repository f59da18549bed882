"""Which configurations can train together in one process (`trainables.packed`); needs no torch."""

from typing import Any

from trainables.base.schema import to_flat
from trainables.options.classifiers import InlierAttackOptions
from trainables.options.common import AttackOptions
from trainables.options.methods import METHODS

#: The only values of an option that packs can train, for the methods that have the option.
PACKED_VALUES: dict[str, tuple[Any, ...]] = {
    "attack_bn": ("eval",),
    "balance": ("none", "sampling"),
    "precision": ("float32",),
    "energy.trainable": ("all",),
    "greg.weight": (0.0,),
    "greg.sampler": ("random",),
    "outlier_clamp": (True,),
}


def unpackable(method: str, options: Any) -> str:
    """Return why a configuration can only be trained alone, in one line, or "" if it has a packed form."""
    if METHODS[method].packed is None:
        packable = sorted(spec.name for spec in METHODS if spec.packed is not None)
        return f"method {method} has no packed form (those that have: {', '.join(packable)})"
    if options.dropout:
        return "dropout draws from the process's generator, which trials of a pack would share"
    flat = to_flat(options)
    for name, values in PACKED_VALUES.items():
        if flat.get(name, values[0]) not in values:
            return f"{name}={flat[name]} has no packed form"
    for name, attack in vars(options).items():
        if isinstance(attack, (AttackOptions, InlierAttackOptions)) and attack.spec.packed is None:
            return f"{name}.name={attack.name} has no packed form"
    return ""


def pack_key(method: str, options: Any) -> tuple[Any, ...]:
    """Return what trials of one pack have in common; trials of equal keys can be trained together."""
    packed = METHODS[method].packed
    varies = packed.varies if packed is not None else ()
    fixed = {
        name: value
        for name, value in to_flat(options).items()
        if name not in varies and not any(v.endswith(".") and name.startswith(v) for v in varies)
    }
    return (method, options.ema > 0, *sorted(fixed.items()))
