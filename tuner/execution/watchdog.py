"""Ends the workers of trials that hang."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune

FIRST_EPOCH_S = 4 * 3600.0  # the watchdog's patience while no epoch is known,
EPOCH_FACTOR = 10.0  # later so many times the longest that one has taken,
LEAST_S = 600.0  # and never less than this


class LivesInTheDriver:
    """Keeps Tune's snapshots empty of us: they are never read, and a pickle of the queue would be a second truth."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Watchdog(LivesInTheDriver, tune.Callback):
    """Kills the worker of a trial that has not reported for too long; the scheduler then hears of a lost worker.

    Looked at on every turn of Tune's loop, ten times a second. A trial's clock starts with its worker (one that waits
    for a free place is not silent), and is monotonic: it stands still while the machine sleeps.

    Args:
        limit_s: seconds for one epoch, or None: `EPOCH_FACTOR` times the longest so far, at least `LEAST_S`.
        longest_s: the longest epoch of earlier launches and stages, 0 if none is known.
    """

    def __init__(
        self, limit_s: float | None, longest_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s, self.longest_s, self.clock = limit_s, longest_s, clock
        self.heard: dict[str, tuple[Any, float]] = {}
        self.hung: dict[str, str] = {}

    @property
    def limit(self) -> float:
        if self.limit_s is not None:
            return self.limit_s
        return max(LEAST_S, EPOCH_FACTOR * self.longest_s) if self.longest_s else FIRST_EPOCH_S

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard[trial.trial_id] = trial, self.clock()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        now = self.clock()
        before = self.heard.get(trial.trial_id, (trial, now))[1]
        self.longest_s = max(self.longest_s, now - before)
        self.heard[trial.trial_id] = trial, now

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.heard.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        now, limit = self.clock(), self.limit
        for name, (trial, heard) in list(self.heard.items()):
            actor = trial.temporary_state.ray_actor
            if now - heard > limit and actor is not None:
                del self.heard[name]
                self.hung[name] = f"hung: no report for {now - heard:.0f} s (limit {limit:.0f} s)"
                ray.kill(actor)
