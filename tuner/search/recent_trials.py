"""Optuna's storage in memory that shows a sampler the newest and the best trials of a long search, not all of them."""

from bisect import insort
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.search.samplers import sort_key

BEST = 25  # as many as TPE takes for its model of good trials at most


class RecentTrials(optuna.storages.InMemoryStorage):
    """Trials of one study with one objective; lists those that run, the best `BEST` and the newest that ended.

    Optuna's samplers go through every listed trial for each suggestion, so that this would cost ever more. What is
    listed is a function of the trials that ended, whatever the order they ended in. Failed trials, which teach
    nothing, are left out once others are. Nothing is deleted.

    Args:
        shown: how many ended trials are listed, more than `BEST`.
    """

    def __init__(self, direction: StudyDirection, shown: int) -> None:
        super().__init__()
        self._sign = 1 if direction is StudyDirection.MINIMIZE else -1
        self._shown = shown
        self._open: set[int] = set()  # ids here and below
        self._by_age: list[int] = []
        self._by_rank: list[tuple[tuple[float, ...], int]] = []

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self._open.add(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._open.discard(trial_id)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):
            insort(self._by_age, trial_id)
            insort(self._by_rank, (sort_key(self.get_trial(trial_id), self._sign), trial_id))
        return changed

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if len(self._by_age) <= self._shown:
            return super().get_all_trials(study_id, deepcopy, states)
        best = [trial_id for _, trial_id in self._by_rank[:BEST]]
        ids: set[Any] = self._open.union(best, self._by_age[BEST - self._shown :])
        trials = [self.get_trial(trial_id) for trial_id in sorted(ids)]
        return [trial for trial in trials if states is None or trial.state in states]
