"""The most expensive configuration of a search space, for measuring what a trial needs. Pure values."""

from collections.abc import Callable
from typing import Any

from search_spaces.domain import Choice, Domain, Float, Int, Value
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.planning.plan import LanePlan

Cost = Callable[[Any], float] | None


def costliest_configuration(lane: LanePlan, seed: int) -> dict[str, Any]:
    """Return the configuration of a lane with every searched option at its most expensive value.

    What a value costs is declared with the option (`trainables.base.schema.option`); whole numbers (steps, batch sizes,
    counts) cost more the larger they are. Any other option is set to the middle of its range, which trains safely, or
    to the last of its choices.

    Example:
        attack.steps int(2, 10) -> 10; lr loguniform(1e-4, 1e-2) -> 1e-3; attack.name choice(pgd, fgsm) -> pgd
    """
    known = fields_of(METHODS[lane.method].options)
    searched = {key: costliest(domain, known[key][0].metadata["cost"]) for key, domain in lane.space.items()}
    return {**lane.fixed, **searched, "seed": seed}


def costliest(domain: Domain, cost: Cost = None) -> Value:
    """Return the value of a domain that costs most.

    Args:
        cost: of a value, in any unit; None where it does not depend on the value or grows with whole numbers.
    """
    if isinstance(domain, Int):
        return domain.high
    if isinstance(domain, Float):
        if cost is not None:
            return max(domain.low, domain.high, key=cost)
        return (domain.low * domain.high) ** 0.5 if domain.log else (domain.low + domain.high) / 2
    return _costliest_choice(domain, cost)


def _costliest_choice(domain: Choice, cost: Cost) -> Value:
    options = domain.options
    if cost is not None:
        return max(options, key=cost)
    if all(isinstance(value, (bool, int, float)) for value in options):
        return max(options, key=float)
    return options[-1]
