"""What a sampler sees: a study in memory that holds the trials of a lane and the observations it started with."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from tuner.base.records import Observation
from tuner.search import samplers

# these read what a trial reached before it was stopped early; the others look at complete trials alone
READ_PRUNED = ("tpe", "tpe-multivariate", "cmaes", "random", "grid")


class SamplerStudy:
    """The trials of a lane as its sampler is shown them; rebuilt from the storage at every launch.

    Suggestions are drawn here and not in the storage, so that a kill leaves a whole trial there or none.

    A trial that was stopped early is PRUNED with its last value where the sampler reads that and there is one
    objective. Elsewhere it is complete with its last values and infeasible ("pruned"): with a third of the trials
    surviving, `gp` and `nsga2` would otherwise learn from a third.

    Args:
        prior: observations of earlier runs, seen by the sampler before the first trial.
    """

    def __init__(
        self,
        sampler: str,
        space: samplers.Space,
        directions: Sequence[StudyDirection],
        prior: Sequence[Observation] = (),
    ) -> None:
        self.sampler, self.space = sampler, dict(space)
        self._as_pruned = len(directions) == 1 and sampler in READ_PRUNED
        self._idle = optuna.samplers.RandomSampler(seed=0)
        self._study = optuna.create_study(directions=list(directions), sampler=self._idle)
        self._storage = self._study._storage
        self._running: dict[int, Trial] = {}
        for observation in prior:
            self._tell(self._add(observation.params, {}), observation)

    def draw(self, seed: int, sampler: str = "") -> Trial:
        """Return a running trial with the next parameters; it has to be kept or discarded.

        `Study.ask` does the same, after a search through all trials for one that was enqueued; here none ever is.
        """
        self._study.sampler = samplers.make(sampler or self.sampler, self.space, seed)
        try:
            self._study._thread_local.cached_all_trials = None
            trial = Trial(self._study, self._storage.create_new_trial(self._study._study_id))
            for name, distribution in self.space.items():
                trial._suggest(name, distribution)
            return trial
        finally:
            self._study.sampler = self._idle

    def place(self, params: Mapping[str, Any]) -> Trial:
        """Return a running trial with these parameters; it has to be kept or discarded."""
        return self._add(params, {})

    def discard(self, drawn: Trial) -> None:
        self._study.tell(drawn, state=TrialState.FAIL)  # failed trials teach a sampler nothing

    def keep(self, number: int, drawn: Trial) -> dict[str, Any]:
        """Take a drawn trial for the lane's trial `number`; return what its sampler noted, for `restore`."""
        self._running[number] = drawn
        return _notes(self._storage.get_trial(drawn._trial_id).system_attrs)

    def restore(self, number: int, params: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
        """Take up a trial of an earlier launch, in the order of the numbers; `attrs` hold what `keep` returned."""
        self._running[number] = self._add(params, _notes(attrs))

    def end(self, number: int, observation: Observation | None) -> None:
        """Show what became of a trial; None if it failed."""
        trial = self._running.pop(number)
        if observation is None:
            self.discard(trial)
        else:
            self._tell(trial, observation)

    def _add(self, params: Mapping[str, Any], notes: Mapping[str, Any]) -> Trial:
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self.space,
            system_attrs=dict(notes),
        )
        frozen = self._storage.get_trial(self._storage.create_new_trial(self._study._study_id, template))
        if self.sampler == "nsga2" and not notes:
            nsga2 = samplers.make("nsga2", self.space, 0)
            assert isinstance(nsga2, samplers.NsgaSampler)
            nsga2.get_trial_generation(self._study, frozen)  # notes it on the trial
        return Trial(self._study, frozen._trial_id)

    def _tell(self, trial: Trial, observation: Observation) -> None:
        for name, amount in observation.violations.items():
            trial.set_constraint(name, amount)
        if observation.pruned and self._as_pruned:
            trial.report(observation.values[0], observation.epochs)
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        if not self._as_pruned:
            # on every trial: GPSampler wants as many constraints of each; well on either side of the bound, 0
            trial.set_constraint("pruned", 1.0 if observation.pruned else -1.0)
        self._study.tell(trial, list(observation.values))


def _notes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a trial's attributes that its sampler needs again: the generation it belongs to."""
    return {key: value for key, value in attrs.items() if key.endswith(":generation")}
