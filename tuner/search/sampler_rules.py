"""What each sampler can choose; checked before anything starts. Imports nothing heavy."""

from collections.abc import Mapping, Sequence

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from tuner.base.errors import UsageError


def check_sampler(
    sampler: str, lane: str, space: Mapping[str, Domain], objectives: Sequence[Objective]
) -> None:
    """Refuse what a sampler cannot do.

    Raises:
        UsageError: `cmaes` with a choice or several objectives, `grid` with a range of real numbers.
    """
    if sampler == "cmaes":
        choices = [key for key, domain in space.items() if isinstance(domain, Choice)]
        if choices:
            raise UsageError(
                f"sampler cmaes searches numbers only, and {_names(choices, lane)} a choice; "
                f"fix it, for example --set {choices[0]}={space[choices[0]].options[0]}, or use tpe or gp"  # type: ignore[union-attr]
            )
        if len(objectives) > 1:
            names = ", ".join(o.metric for o in objectives)
            raise UsageError(
                f"sampler cmaes has one objective, not {len(objectives)} ({names}); use nsga2 or tpe"
            )
    if sampler == "grid":
        ranges = [key for key, domain in space.items() if isinstance(domain, Float)]
        if ranges:
            raise UsageError(
                f"sampler grid walks listed values, and {_names(ranges, lane)} a range; "
                f"list some, for example --set '{ranges[0]}={_listed(space[ranges[0]])}'"
            )


def _names(keys: Sequence[str], lane: str) -> str:
    where = "" if lane == "search" else f" of {lane}"
    return f"{', '.join(keys)}{where} {'is' if len(keys) == 1 else 'each is'}"


def _listed(domain: Domain) -> str:
    """Return a range's two ends and the middle as a choice.

    Example:
        loguniform(0.001, 0.1) -> choice(0.001, 0.01, 0.1)
    """
    assert isinstance(domain, Float)
    middle = (domain.low * domain.high) ** 0.5 if domain.log else (domain.low + domain.high) / 2
    return f"choice({domain.low:g}, {middle:.3g}, {domain.high:g})"
