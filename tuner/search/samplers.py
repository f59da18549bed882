"""The samplers of `sampler_specs.SAMPLERS`: Optuna's, CMA-ES over the stored history, and the order of a grid search.

A sampler is made anew for every suggestion, with a seed for it. What it suggests is a function of that seed and of the
trials it is shown, never of what it did before: so a resumed search suggests the same.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from trainables.base.registry import resolve_reference
from tuner.search.sampler_specs import SamplerSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)

POPULATION = 10  # of NSGA-II; Optuna's 50 would be random search at the trials that a study here can pay for
GENERATION = "cmaes:generation"
Space = Mapping[str, BaseDistribution]


def make(spec: SamplerSpec, space: Space, seed: int) -> optuna.samplers.BaseSampler:
    """Return a sampler for one suggestion; of an empty space, which has nothing to learn, the random one.

    Args:
        seed: from 0 to 2**32 - 1.
    """
    if not space:
        return random(space, seed)
    sampler: optuna.samplers.BaseSampler = resolve_reference(spec.make)(space, seed)
    return sampler


def random(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def tpe(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    return KnownSpaceTpe(space, seed)


def multivariate_tpe(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    return KnownSpaceTpe(space, seed, always_joint=True)


class KnownSpaceTpe(optuna.samplers.TPESampler):
    """TPE that is told the space which Optuna's would infer from all trials for each suggestion; it suggests the same.

    Args:
        always_joint: whether parameters are modelled jointly with several objectives too.
    """

    def __init__(self, space: Space, seed: int, always_joint: bool = False) -> None:
        joint: dict[str, Any] = {"multivariate": True} if always_joint else {}
        super().__init__(seed=seed, **joint)
        self._always_joint = always_joint
        self._space = {name: space[name] for name in sorted(space) if not space[name].single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self._space if self._always_joint or len(study.directions) == 1 else {}


def gaussian_process(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def nsga2(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    return NsgaSampler(population_size=POPULATION, seed=seed)


class NsgaSampler(optuna.samplers.NSGAIISampler):
    """NSGA-II whose parents always come in the order of their numbers.

    The name of this class is part of an attribute of stored trials ("NsgaSampler:generation").

    Optuna's come in the order of the selection for the first child of a generation, and by number for the rest,
    so that a restart in mid-generation would draw other children.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda t: t.number)


class CmaSampler(optuna.samplers.BaseSampler):
    """CMA-ES whose state is computed anew from the trials, generation by generation.

    Optuna's own keeps the optimiser as a pickle in the study's database, which one should not load from a file
    of unknown origin, leaves out trials that were stopped early, and does not know constraints. CMA-ES needs
    the order of its solutions only, so all of these take part: feasible complete trials by their objective, then
    those stopped early (the later the better), then infeasible ones by how far they are off.

    Whole numbers are searched as real ones and rounded. A trial without a generation is an observation of an
    earlier run; such set the first mean and covariance (Nomura et al. 2021).

    Args:
        space: numbers only.

    Source:
        Hansen, The CMA Evolution Strategy: A Tutorial (2016), by the package cmaes. Starts in the middle of the box
        with a standard deviation of 0.3 of its width, as the tutorial recommends.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = dict(space), seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next parameters, and note the generation they belong to on the trial."""
        sign = 1 if study.direction is StudyDirection.MINIMIZE else -1
        known = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        by_generation: dict[int | None, list[FrozenTrial]] = {}
        for ended in sorted(known, key=lambda t: sort_key(t, sign)):
            by_generation.setdefault(ended.system_attrs.get(GENERATION), []).append(ended)
        strategy = self._start(by_generation.get(None, []))
        while len(members := by_generation.get(strategy.generation, [])) >= strategy.population_size:
            # where trials run side by side a generation may have more members than it needs: the first ones count
            chosen = sorted(t.number for t in members)[: strategy.population_size]
            ranked = [self._encode(t.params) for t in members if t.number in chosen]
            strategy.tell([(point, float(place)) for place, point in enumerate(ranked)])
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, strategy.generation)
        return self._decode(strategy.ask())

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError(f"{param_name} is not part of the space")

    def _start(self, earlier: Sequence[FrozenTrial]) -> Any:
        import cmaes

        size = len(self._space)
        mean, sigma, covariance = np.full(size, 0.5), 0.3, np.eye(size)
        if earlier:
            solutions = [(self._encode(t.params), float(place)) for place, t in enumerate(earlier)]
            share = max(0.1, min(1.0, 1.5 / len(earlier)))  # a tenth, and at least one
            mean, sigma, covariance = cmaes.get_warm_start_mgd(solutions, gamma=share)
        box = np.tile([0.0, 1.0], (size, 1))
        return cmaes.CMA(mean=mean, sigma=sigma, cov=covariance, bounds=box, seed=self._seed)

    def _encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return parameters as a point of the unit cube; a whole number lies in the middle of its cell."""
        point = []
        for name, domain in self._space.items():
            low, high, scale = _edges(domain)
            point.append((scale(params[name]) - low) / (high - low))
        return np.array(point)

    def _decode(self, point: np.ndarray) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for share, (name, domain) in zip(point, self._space.items(), strict=True):
            assert isinstance(domain, (FloatDistribution, IntDistribution))
            low, high, _ = _edges(domain)
            value = low + float(share) * (high - low)
            value = math.exp(value) if domain.log else value
            clipped = min(max(value, domain.low), domain.high)
            params[name] = round(clipped) if isinstance(domain, IntDistribution) else clipped
        return params


def _edges(domain: BaseDistribution) -> tuple[float, float, Any]:
    """Return (low, high, scale) of a domain on its own scale; half a step wider for whole numbers."""
    assert isinstance(domain, (FloatDistribution, IntDistribution))
    wider = 0.5 if isinstance(domain, IntDistribution) else 0.0
    scale = math.log if domain.log else float
    return scale(domain.low - wider), scale(domain.high + wider), scale


def sort_key(trial: FrozenTrial, sign: int) -> tuple[float, ...]:
    """Return what trials with one objective are sorted by, best first.

    Args:
        sign: 1 for an objective that is minimised, -1 for one that is maximised.

    Example:
        complete, loss .3: (0, .3); stopped at epoch 3, loss .2: (1, -3, .2); .01 below its floor: (2, .01)
    """
    violation = sum(max(0.0, amount) for amount in trial.constraints.values())
    if violation > 0:
        return (2, violation)
    if trial.state is TrialState.COMPLETE:
        return (0, sign * trial.values[0])
    epoch, value = max(trial.intermediate_values.items())
    return (1, -epoch, sign * value)


def grid_order(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Yield every configuration of a finite space once; the first ones are spread over the whole space.

    Configuration k is number (seed + k * step) modulo the size, in the order of the product; step is the whole
    number from 0.618 of the size on that shares no factor with it.

    Example:
        2 x 3 configurations, seed 0: step 5, so numbers 0, 5, 4, 3, 2, 1
    """
    axes = {name: _values(domain) for name, domain in space.items()}
    size = math.prod(map(len, axes.values()))
    step = math.ceil(0.618 * size)
    while math.gcd(step, size) > 1:
        step += 1
    for k in range(size):
        index, chosen = (seed + k * step) % size, {}
        for name, values in reversed(axes.items()):
            index, place = divmod(index, len(values))
            chosen[name] = values[place]
        yield {name: chosen[name] for name in axes}


def _values(domain: BaseDistribution) -> Sequence[Any]:
    if isinstance(domain, CategoricalDistribution):
        return domain.choices
    assert isinstance(domain, IntDistribution)
    return range(domain.low, domain.high + 1)
