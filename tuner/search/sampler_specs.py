"""The samplers by name: what each does, what it cannot search, and where its class is. Imports nothing heavy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described, described_type
from trainables.base.registry import Registry, check_references
from tuner.base.errors import UsageError

DRAWS = 32
TPE_SHOWN = (
    1000  # from here on a suggestion costs the same; TPE itself weighs trials the less the older they are
)


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler: what chooses the next configuration of a search.

    To add one, register a spec here and write its `make` in a module that may import optuna.

    Attributes:
        name: as `--sampler` and studies say it.
        about: what it does, in a phrase; help text and the table of docs/search.md.
        use: what it is good for, for that table.
        make: "module:function" of (space as {name: Optuna distribution}, seed from 0 to 2**32 - 1), or the function,
            which returns an `optuna.samplers.BaseSampler` for one suggestion; see `tuner.search.samplers`.
        reads_stopped: whether it learns from the last value of a trial that was stopped early, which Optuna calls
            PRUNED. If not, such a trial is shown to it as complete and infeasible; it would ignore it otherwise.
        numbers_only: it cannot search a choice.
        one_objective: it cannot search for a Pareto front.
        listed_values_only: it cannot search a range of real numbers.
        grid: configurations are taken in the order of `samplers.grid_order`, `make` is not asked.
        draws: how often it is asked again if it suggests what was tried already, before `samplers.grid_order`
            (in a space with real numbers: a random draw) supplies the configuration.
        shown: with one objective it is shown this many ended trials at most, the best and the newest; None: all.
        stored_attributes: Optuna system attributes that it writes on a trial it suggests and needs after a restart.
    """

    name: str
    about: str
    use: str
    make: str | Callable[..., Any]
    reads_stopped: bool
    numbers_only: bool = False
    one_objective: bool = False
    listed_values_only: bool = False
    grid: bool = False
    draws: int = DRAWS
    shown: int | None = None
    stored_attributes: tuple[str, ...] = ()

    @property
    def limits(self) -> str:
        """Return what it cannot search, for the documentation; "" if it can search everything."""
        words = {
            "choices": self.numbers_only,
            "several objectives": self.one_objective,
            "ranges of real numbers": self.listed_values_only,
        }
        return ", ".join(word for word, applies in words.items() if applies)


def own_sampler(name: str, thing: Any) -> SamplerSpec:
    """Return the spec of a function (space, seed) of the user's own, which is not taken to read stopped trials.

    Raises:
        InputError: it is no function.
    """
    if isinstance(thing, SamplerSpec):
        return replace(thing, name=name)
    if not callable(thing):
        raise InputError(
            f"it is {described_type(thing)}; it must be a function (space, seed) that returns an Optuna sampler, or a "
            "SamplerSpec"
        )
    return SamplerSpec(name, described(thing), "", thing, reads_stopped=False)


SAMPLERS = Registry(
    "sampler",
    [
        SamplerSpec(
            "tpe",
            "Optuna's TPE; joint over all parameters with one objective, each by itself with several",
            "nearly always; from 10 ended trials on it is a model",
            "tuner.search.samplers:tpe",
            reads_stopped=True,
            shown=TPE_SHOWN,
        ),
        SamplerSpec(
            "tpe-multivariate",
            "the same, joint with several objectives too",
            "several objectives and parameters that interact",
            "tuner.search.samplers:multivariate_tpe",
            reads_stopped=True,
            shown=TPE_SHOWN,
        ),
        SamplerSpec(
            "gp",
            "Gaussian process, expected improvement (several objectives: hypervolume)",
            "few, expensive trials; up to about 100",
            "tuner.search.samplers:gaussian_process",
            reads_stopped=False,
            draws=2,  # its optimum hardly depends on the seed, and each draw costs up to a second
        ),
        SamplerSpec(
            "cmaes",
            "CMA-ES",
            "numbers only, many trials (100 and more), a ridge in the space",
            "tuner.search.samplers:CmaSampler",
            reads_stopped=True,
            numbers_only=True,
            one_objective=True,
            stored_attributes=("cmaes:generation",),
        ),
        SamplerSpec(
            "nsga2",
            "NSGA-II, population 10",
            "several objectives, 100 trials and more",
            "tuner.search.samplers:nsga2",
            reads_stopped=False,
            stored_attributes=("NsgaSampler:generation",),
        ),
        SamplerSpec(
            "random",
            "uniform on each domain's scale",
            "a control for the search itself; importances without bias",
            "tuner.search.samplers:random",
            reads_stopped=True,
        ),
        SamplerSpec(
            "grid",
            "every configuration of listed values once, early ones spread over the whole grid",
            "a table over one or two parameters",
            "tuner.search.samplers:random",
            reads_stopped=True,
            listed_values_only=True,
            grid=True,
        ),
    ],
    others=OwnSpecs("sampler", "samplers", own_sampler),
)


def check_sampler(name: str, lane: str, space: Mapping[str, Domain], objectives: Sequence[Objective]) -> None:
    """Check that a sampler can search a space for these objectives.

    Args:
        lane: of the space, for the message: "search" or the name of a baseline arm.

    Raises:
        InputError: there is no sampler of that name, or its code is not there.
        UsageError: it cannot; the message has a setting that helps.
    """
    spec = SAMPLERS[name]
    check_references(spec)
    choices = {key: domain for key, domain in space.items() if isinstance(domain, Choice)}
    if spec.numbers_only and choices:
        key, domain = next(iter(choices.items()))
        other = next(s.name for s in SAMPLERS if not s.numbers_only)
        raise UsageError(
            f"sampler {name} searches numbers only, and {_names(list(choices), lane)} a choice; "
            f"fix it, for example --set {key}={domain.options[0]}, or use {other}"
        )
    if spec.one_objective and len(objectives) > 1:
        metrics = ", ".join(o.metric for o in objectives)
        other = next(s.name for s in SAMPLERS if not s.one_objective)
        raise UsageError(f"sampler {name} has one objective, not {len(objectives)} ({metrics}); use {other}")
    ranges = {key: domain for key, domain in space.items() if isinstance(domain, Float)}
    if spec.listed_values_only and ranges:
        key, first = next(iter(ranges.items()))
        raise UsageError(
            f"sampler {name} takes listed values only, and {_names(list(ranges), lane)} a range; "
            f"list some, for example --set '{key}={_listed(first)}'"
        )


def _names(keys: Sequence[str], lane: str) -> str:
    where = "" if lane == "search" else f" of {lane}"
    return f"{', '.join(keys)}{where} {'is' if len(keys) == 1 else 'each is'}"


def _listed(domain: Float) -> str:
    """Return a range's two ends and its middle as a choice.

    Example:
        loguniform(0.001, 0.1) -> choice(0.001, 0.01, 0.1)
    """
    middle = (domain.low * domain.high) ** 0.5 if domain.log else (domain.low + domain.high) / 2
    return f"choice({domain.low:g}, {middle:.3g}, {domain.high:g})"
