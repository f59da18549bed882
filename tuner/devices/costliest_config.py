"""The configuration of a lane that costs most, for measuring what a trial needs. Pure values."""

from typing import Any

from search_spaces.domain import Choice, Domain, Float, Int, Value
from tuner.planning.plan import LanePlan

# options whose values are words, cheapest first; of words that are not listed the last of a choice counts
RISING: dict[str, tuple[str, ...]] = {
    "network": (
        *("small_cnn", "mobilenet_v3_small", "mobilenet_v3_large", "wrn_40_2", "preact_resnet18"),
        *("resnet50", "wrn_28_10", "wrn_28_10_silu"),
    ),
    "name": ("none", "gauss", "signnoise", "fgsm", "ce", "energy", "mifgsm", "pgd", "eba", "eba_pgd"),
    "precision": ("bf16", "float32"),
    "optimizer": ("sgd", "adam"),
    "trainable": ("head", "all"),
}
GROWS = ("ratio",)  # real numbers that are sizes; any other is taken from the middle


def costliest_configuration(lane: LanePlan, seed: int) -> dict[str, Any]:
    """Return the configuration of a lane with every domain at its most expensive value.

    That is the upper end of whole numbers (steps, batch sizes, counts) and of the real numbers in GROWS, the largest of
    a choice of numbers, the last in RISING of a choice of words, and the middle of every other real number, which
    costs the same as any and trains safely.

    Example:
        attack.steps int(2, 10) -> 10; lr loguniform(1e-4, 1e-2) -> 1e-3; attack.name choice(pgd, fgsm) -> pgd
    """
    return {**lane.fixed, **{key: costliest(key, domain) for key, domain in lane.space.items()}, "seed": seed}


def costliest(key: str, domain: Domain) -> Value:
    """Return the value of a domain that makes a trial largest."""
    name = key.rpartition(".")[2]
    if isinstance(domain, Int):
        return domain.high
    if isinstance(domain, Float):
        if name in GROWS:
            return domain.high
        return (domain.low * domain.high) ** 0.5 if domain.log else (domain.low + domain.high) / 2
    return _costliest_choice(name, domain)


def _costliest_choice(name: str, domain: Choice) -> Value:
    options = domain.options
    if all(isinstance(value, (bool, int, float)) for value in options):
        return max(options, key=float)
    order = RISING.get(name, ())
    known = [value for value in options if value in order]
    return max(known, key=lambda value: order.index(str(value))) if known else options[-1]
