"""Tune callback that kills the workers of trials that hang."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune

FIRST_EPOCH_LIMIT_S = 4 * 3600.0  # limit while the length of an epoch is unknown,
EPOCH_FACTOR = 10.0  # later this multiple of the longest epoch,
MIN_LIMIT_S = 600.0  # and at least this


class NotCheckpointed:
    """Mixin for objects that Tune must not pickle into its snapshots, which are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Watchdog(NotCheckpointed, tune.Callback):
    """Kills the worker of a trial that has not reported for too long; the scheduler then sees a lost worker.

    Checked in every iteration of Tune's loop, ten times a second. Time counts from the start of the worker, not of the
    wait for one, by a monotonic clock, which stops while the machine sleeps.

    Args:
        limit_s: seconds for an epoch, or None: `EPOCH_FACTOR` times the longest so far, at least `MIN_LIMIT_S`.
        longest_s: the longest epoch of earlier launches and stages in seconds, 0 if unknown.
    """

    def __init__(
        self, limit_s: float | None, longest_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s, self.longest_s, self.clock = limit_s, longest_s, clock
        self.last_report: dict[str, tuple[Any, float]] = {}  # {trial id: (trial, time)}
        self.hung: dict[str, str] = {}  # {trial id: reason} of killed workers

    @property
    def limit(self) -> float:
        if self.limit_s is not None:
            return self.limit_s
        return max(MIN_LIMIT_S, EPOCH_FACTOR * self.longest_s) if self.longest_s else FIRST_EPOCH_LIMIT_S

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.last_report[trial.trial_id] = trial, self.clock()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        now = self.clock()
        before = self.last_report.get(trial.trial_id, (trial, now))[1]
        self.longest_s = max(self.longest_s, now - before)
        self.last_report[trial.trial_id] = trial, now

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.last_report.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.last_report.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        now, limit = self.clock(), self.limit
        for name, (trial, reported) in list(self.last_report.items()):
            actor = trial.temporary_state.ray_actor
            if now - reported > limit and actor is not None:
                del self.last_report[name]
                self.hung[name] = f"hung: no report for {now - reported:.0f} s (limit {limit:.0f} s)"
                ray.kill(actor)
