"""The Optuna study in memory that a sampler draws from: one search's trials and the observations of earlier runs.

A lane is one search of a run: the study's own, or that of a baseline arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.samplers import BaseGASampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tuner.base.records import Observation
from tuner.search import samplers
from tuner.search.recent_trials import RecentTrials
from tuner.search.sampler_specs import SAMPLERS


@dataclass(frozen=True)
class Drawn:
    """A running trial of the sampler's study: its number there, and its parameters."""

    number: int
    params: Mapping[str, Any]


class SamplerStudy:
    """The trials of a lane as its sampler sees them; rebuilt from the storage at every launch.

    Suggestions are drawn here and not in the storage, so that a kill leaves a whole trial there or none.

    A trial that was stopped early is PRUNED with its last value where the sampler reads that
    (`SamplerSpec.reads_stopped`) and there is one objective. Elsewhere it is complete with its last values and
    infeasible by the constraint "pruned": with a third of the trials surviving, such a sampler would otherwise learn
    from a third.

    Args:
        sampler: a name of `tuner.search.sampler_specs.SAMPLERS`.
        prior: observations of earlier runs, seen by the sampler before the first trial.

    Raises:
        InputError: there is no sampler of that name.
    """

    def __init__(
        self,
        sampler: str,
        space: samplers.Space,
        directions: Sequence[StudyDirection],
        prior: Sequence[Observation] = (),
    ) -> None:
        self.spec, self.space = SAMPLERS[sampler], dict(space)
        self._as_pruned = len(directions) == 1 and self.spec.reads_stopped
        self._storage = (
            RecentTrials(directions[0], self.spec.shown)
            if self.spec.shown and len(directions) == 1
            else optuna.storages.InMemoryStorage()
        )
        self._idle = optuna.samplers.RandomSampler(seed=0)
        self._study = optuna.create_study(
            storage=self._storage, directions=list(directions), sampler=self._idle
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._running: dict[int, int] = {}  # {number of a lane's running trial: its number here}
        for observation in prior:
            self._tell(self._add(observation.params, {}), observation)

    def draw(self, seed: int) -> Drawn:
        """Return a trial with the parameters that the sampler suggests next; it has to be kept or discarded."""
        return self._ask(samplers.make(self.spec, self.space, seed))

    def draw_at_random(self, seed: int) -> Drawn:
        """Return a trial with random parameters; it has to be kept or discarded."""
        return self._ask(samplers.random(self.space, seed))

    def _ask(self, sampler: optuna.samplers.BaseSampler) -> Drawn:
        self._study.sampler = sampler
        try:
            trial = self._study.ask(fixed_distributions=self.space)
            return Drawn(trial.number, trial.params)
        finally:
            self._study.sampler = self._idle

    def place(self, params: Mapping[str, Any]) -> Drawn:
        """Return a trial with these parameters; it has to be kept or discarded."""
        return Drawn(self._add(params, {}), params)

    def discard(self, drawn: Drawn) -> None:
        """End a trial as failed: samplers ignore it."""
        self._study.tell(drawn.number, state=TrialState.FAIL)

    def keep(self, number: int, drawn: Drawn) -> dict[str, Any]:
        """Make a drawn trial the lane's trial `number`; return the attributes that `restore` needs again."""
        self._running[number] = drawn.number
        return self._stored_attributes(self._storage.get_trial_system_attrs(self._id(drawn.number)))

    def restore(self, number: int, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Add a running trial of an earlier launch; to be called in the order of the numbers.

        Args:
            attributes: hold what `keep` returned.
        """
        self._running[number] = self._add(params, self._stored_attributes(attributes))

    def end(self, number: int, observation: Observation | None) -> None:
        """End a lane's trial with its result; None if it failed."""
        own = self._running.pop(number)
        if observation is None:
            self._study.tell(own, state=TrialState.FAIL)
        else:
            self._tell(own, observation)

    def _stored_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {key: attributes[key] for key in self.spec.stored_attributes if key in attributes}

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    @cached_property
    def _genetic(self) -> BaseGASampler | None:
        sampler = samplers.make(self.spec, self.space, 0)
        return sampler if isinstance(sampler, BaseGASampler) else None

    def _add(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> int:
        """Add a running trial and return its number."""
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self.space,
            system_attrs=dict(attributes),
        )
        frozen = self._storage.get_trial(self._storage.create_new_trial(self._study_id, template))
        if not attributes and self._genetic:
            self._genetic.get_trial_generation(self._study, frozen)  # stores it on the trial
        return frozen.number

    def _tell(self, number: int, observation: Observation) -> None:
        constraints = dict(observation.violations)
        if not self._as_pruned:
            # on every trial: GPSampler wants as many constraints of each; well on either side of the bound, 0
            constraints["pruned"] = 1.0 if observation.pruned else -1.0
        for key, value in constraint_attributes(constraints).items():
            self._storage.set_trial_system_attr(self._id(number), key, value)
        if observation.pruned and self._as_pruned:
            self._storage.set_trial_intermediate_value(
                self._id(number), observation.epochs, observation.values[0]
            )
            self._study.tell(number, state=TrialState.PRUNED)
            return
        self._study.tell(number, list(observation.values))


def constraint_attributes(constraints: Mapping[str, float]) -> dict[str, Any]:
    """Return the system attributes as which Optuna stores the constraints of a trial; above 0 is infeasible."""
    return optuna.trial.create_trial(state=TrialState.RUNNING, constraints=dict(constraints)).system_attrs
