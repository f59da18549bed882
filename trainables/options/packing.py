"""Which configurations can train side by side in one process (`trainables.packed`); readable without torch."""

from typing import Any

from trainables.base.schema import to_flat
from trainables.options.classifiers import InlierAttackOptions
from trainables.options.common import AttackOptions

#: What may differ between the trials of a pack, whatever the method; "x." stands for all options of that group.
#: An option that is not listed must be equal: it decides shapes, operations or the number of steps per epoch.
TRAINING = (
    *("seed", "epochs", "cache_dir", "lr", "momentum", "weight_decay", "schedule", "step_size", "gamma"),
    *("grad_clip", "ema", "pretrain."),
)
ATTACK = ("attack.epsilon", "attack.steps", "attack.step_scale")
ADVERSARIAL = (*TRAINING, *ATTACK, "attack.widen", "from_pretrained", "speed_images", "speed_radius")
OUTLIERS = tuple(f"outliers.{name}" for name in ("generator", "sigma", "path", "count", "weight"))

VARIES: dict[str, tuple[str, ...]] = {
    "standard": (*TRAINING, "from_pretrained"),
    "pgd_at": ADVERSARIAL,
    "trades": (*ADVERSARIAL, "beta"),
    "mart": (*ADVERSARIAL, "beta"),
    "oe": (*TRAINING, *OUTLIERS),
    "energy": (
        *TRAINING,
        *OUTLIERS,
        *(f"energy.{name}" for name in ("margins", "m_in_offset", "gap_factor", "m_in", "gap", "lam")),
    ),
    "aoe": (
        *TRAINING,
        *OUTLIERS,
        *ATTACK,
        *("attack.momentum", "attack.schedule"),
        *("inlier_attack.epsilon", "inlier_attack.steps", "inlier_attack.step_scale"),
    ),
}

#: What an option has to be, where a method has it.
PLAIN = {
    "attack_bn": "eval",
    "precision": "float32",
    "energy.trainable": "all",
    "greg.weight": 0.0,
    "greg.sampler": "random",
}


def unpackable(method: str, options: Any) -> str:
    """Return why a configuration can only be trained alone, in one line, or "" if it has a packed form."""
    if method not in VARIES:
        return f"method {method} has no packed form (those that have: {', '.join(sorted(VARIES))})"
    if options.dropout:
        return "dropout draws from the process's generator, which trials of a pack would share"
    flat = to_flat(options)
    for name, plain in PLAIN.items():
        if flat.get(name, plain) != plain:
            return f"{name}={flat[name]} has no packed form"
    for name in ("attack", "inlier_attack"):
        attack = getattr(options, name, None)
        if isinstance(attack, (AttackOptions, InlierAttackOptions)) and attack.spec.packed is None:
            return f"{name}.name={attack.name} has no packed form"
    return ""


def pack_key(method: str, options: Any) -> tuple[Any, ...]:
    """Return what trials of one pack have in common; trials of equal keys can be trained together."""
    varies = VARIES.get(method, ())
    fixed = {
        name: value
        for name, value in to_flat(options).items()
        if name not in varies and not any(v.endswith(".") and name.startswith(v) for v in varies)
    }
    return (method, options.ema > 0, *sorted(fixed.items()))
