"""Between a trial queue and Ray Tune: a searcher and a scheduler without a thought of their own."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from trainables.base import Assets
from trainables.shells import StudyTrainable
from tuner.queue import TrialQueue
from tuner.records import Decision

Logger = Callable[[str, str], None]  # (trial key, text)


class LivesInTheDriver:
    """Keeps Tune's snapshots empty of us: they are never read, and a pickle of the queue would be a second truth."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class QueueSearcher(LivesInTheDriver, Searcher):
    """Hands the queue's trials to Tune. Nothing of it is saved: the queue is rebuilt from the storage."""

    def __init__(self, queue: TrialQueue, folder: str, validation: Mapping[str, Any]) -> None:
        super().__init__(metric=queue.objectives[0].metric, mode="max")
        self.queue, self.folder, self.validation = queue, folder, dict(validation)

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return a trial's configuration, None to be asked again later, or FINISHED."""
        assignment = self.queue.next()
        if assignment is None:
            # FINISHED is for good: while a trial runs its worker may die and the trial come back
            return Searcher.FINISHED if self.queue.finished else None
        return {
            **assignment.configuration,
            "seed": assignment.seed,
            "validation": self.validation,
            "_service": {
                "key": assignment.key,
                "method": assignment.method,
                "pretrain_seed": assignment.pretrain_seed,
                "folder": self.folder,
                "checkpoint": assignment.checkpoint,
            },
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the scheduler has told the queue already, with the reason at hand."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: no state."""


class QueueScheduler(LivesInTheDriver, FIFOScheduler):
    """Passes every report to the queue and stops the trial when the queue says so."""

    def __init__(self, queue: TrialQueue, log: Logger, keep: Logger) -> None:
        super().__init__()
        self.queue, self.log, self.keep = queue, log, keep
        self.opened: set[str] = set()

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        key = trial.config["_service"]["key"]
        if "failed" in result:
            self.log(key, f"FAIL {result['failed']}\n{result.get('trace', '')}")
            self.queue.failed(key, result["failed"])
            return str(TrialScheduler.STOP)
        metrics = {name: value for name, value in result.items() if is_metric(name, value)}
        self.opened.update(result.get("opened", "").split(","))
        for name in filter(None, result.get("files", "").split(",")):
            self.keep(key, name)
        decision = self.queue.report(key, int(result["epoch"]), metrics, result["checkpoint"])
        return str(TrialScheduler.CONTINUE if decision is Decision.CONTINUE else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker vanished (killed, out of memory, node gone): back into the queue. Our own code raised: FAIL."""
        key = trial.config["_service"]["key"]
        error = trial.get_error()
        text = " ".join(str(error).split())[:300] if error else "the worker vanished"
        self.log(key, f"worker lost: {error}")
        if isinstance(error, RayTaskError):
            self.queue.failed(key, text)
        else:
            self.queue.died(key, f"worker lost: {text}")


def is_metric(name: str, value: Any) -> bool:
    """Return whether an entry of a report is one of ours and not of Tune's."""
    ours = name.startswith(("val/", "train/")) or name in ("seconds", "seconds_validation", "passes")
    return ours and isinstance(value, (int, float))


class StopFlag(LivesInTheDriver, Stopper):
    """Ends Tune's loop at its next turn once the flag is up; running trials stay RUNNING in the storage."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.asked()


def run_queue(
    queue: TrialQueue,
    *,
    assets: Assets,
    run_uri: str,
    validation: Mapping[str, Any],
    resources: Mapping[str, float],
    concurrency: int,
    log: Logger,
    keep: Logger,
    asked_to_stop: Callable[[], bool],
) -> set[str]:
    """Run a queue's trials on Ray Tune until none is left or a stop is asked for.

    Tune only executes: a fresh Tuner every time, its own files in a temporary folder, no snapshot is ever read.

    Args:
        log: takes (trial key, text) for the trial's log.
        keep: takes (trial key, name of a file in the run folder) for what a method left.

    Returns:
        The names of the splits that the trials opened.
    """
    treat_lost_workers_as_lost_trials()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every failure is in the trial's log and state
    scheduler = QueueScheduler(queue, log, keep)
    trainable = tune.with_parameters(StudyTrainable, assets=assets)
    while not queue.finished and not asked_to_stop():
        with tempfile.TemporaryDirectory(prefix="robust-tune-") as scratch:
            storage = scratch if "://" not in run_uri else f"{run_uri}/.tune"
            tune.Tuner(
                tune.with_resources(trainable, dict(resources)),
                param_space={},
                tune_config=tune.TuneConfig(
                    num_samples=-1,
                    search_alg=QueueSearcher(queue, run_uri, validation),
                    scheduler=scheduler,
                    max_concurrent_trials=concurrency,
                    reuse_actors=True,
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=_trial_name,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=storage,
                    verbose=0,
                    stop=StopFlag(asked_to_stop),
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()
        queue.reclaim()
    return scheduler.opened - {""}


def _trial_name(trial: Any) -> str:
    return f"{trial.config['_service']['key']}-{trial.trial_id}"


def treat_lost_workers_as_lost_trials() -> None:
    """Make Tune 2.60 survive a worker killed for memory, and the like.

    OutOfMemoryError, NodeDiedError and others are neither RayActorError nor RayTaskError; Tune's actor manager
    raises on them and the whole study ends. Here they count as the death of that one actor.
    """
    original = actor_manager.RayActorManager._actor_task_failed
    if getattr(original, "tolerant", False):
        return

    def tolerant(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        original(self, tracked_actor_task=tracked_actor_task, exception=exception)

    tolerant.tolerant = True  # type: ignore[attr-defined]
    actor_manager.RayActorManager._actor_task_failed = tolerant  # type: ignore[method-assign]
