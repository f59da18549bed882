"""Ray Tune adapter: a Searcher and a Scheduler that forward to the trial queue."""

import contextlib
import functools
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from trainables.evaluation.metrics.metric_family import EPOCH
from trainables.evaluation.metrics.metric_specs import METRICS
from trainables.ray.assets import Assets
from trainables.ray.study_trainable import PackedTrainable, StudyTrainable
from tuner.base.errors import StudyHalted
from tuner.base.records import Decision
from tuner.base.text import one_line
from tuner.devices.resources import with_threads
from tuner.execution.pack_assignment import PackAssignment
from tuner.execution.ray_patch import patch_tune, worker_error
from tuner.execution.trial_queue import Assignment, TrialQueue
from tuner.execution.watchdog import NotCheckpointed, Watchdog

Logger = Callable[[str, str], None]  # (trial key, text)


class FirstError:
    """Holds the first exception of a callback, to be raised again after `Tuner.fit`.

    Raised inside the callback it would end up in a TuneError whose message is a traceback.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None


def capture_first_error(fallback: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a callback of Tune: keep its first exception in `self.first_error`, return `fallback` from then on."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.first_error.error is None:
                try:
                    return method(self, *args, **kwargs)
                except Exception as error:
                    self.first_error.error = error
            return fallback

        return wrapped

    return decorate


class QueueSearcher(NotCheckpointed, Searcher):
    """Searcher that suggests the queue's trials. Tune saves none of its state: the queue is rebuilt from the storage.

    Args:
        configure: turns an assignment into a trainable's configuration.
        packs: if given, a trial of Tune is a worker that trains a pack of the queue's trials.
    """

    def __init__(
        self,
        queue: TrialQueue,
        configure: Callable[[Assignment], dict[str, Any]],
        first_error: FirstError,
        packs: PackAssignment | None = None,
    ) -> None:
        super().__init__(metric=queue.objectives[0].metric, mode="max")
        self.queue, self.configure, self.first_error, self.packs = queue, configure, first_error, packs

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    @capture_first_error(Searcher.FINISHED)
    def suggest(self, trial_id: str) -> Any:
        """Return a trial's configuration, None to be asked again later, or FINISHED."""
        if self.packs is not None:
            pack = [self.configure(assignment) for assignment in self.packs.refill(trial_id)]
            if pack:
                return {"pack": pack}
        else:
            assignment = self.queue.next()
            if assignment is not None:
                return self.configure(assignment)
        # FINISHED is final, and a running trial whose worker is lost comes back to the queue
        return Searcher.FINISHED if self.queue.finished else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the scheduler has told the queue already, and it knows the reason."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: no state."""


class QueueScheduler(NotCheckpointed, FIFOScheduler):
    """Scheduler that passes every report to the queue and stops the trials that the queue has ended.

    Args:
        log, file_written, splits_opened: see `run_queue`.
        watchdog: asked whether it killed a lost worker.
        configure, packs: see `QueueSearcher`.
    """

    def __init__(
        self,
        queue: TrialQueue,
        log: Logger,
        file_written: Logger,
        splits_opened: Callable[[set[str]], None],
        watchdog: Watchdog,
        first_error: FirstError,
        configure: Callable[[Assignment], dict[str, Any]] = lambda assignment: {},
        packs: PackAssignment | None = None,
    ) -> None:
        super().__init__()
        self.queue, self.log = queue, log
        self.file_written, self.splits_opened = file_written, splits_opened
        self.watchdog, self.first_error = watchdog, first_error
        self.configure, self.packs = configure, packs
        self.opened: set[str] = set()

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    @capture_first_error(TrialScheduler.STOP)
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.packs is not None:
            return self._forward_pack(trial, result["pack"], self.packs)
        continues = self._forward(trial.config["_service"]["key"], result)
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)

    def _forward_pack(self, trial: Any, reports: list[dict[str, Any]], packs: PackAssignment) -> str:
        """Pass on the report of every member, and replace the members that have ended."""
        worker = trial.trial_id
        ended = [report["key"] for report in reports if not self._forward(report["key"], report)]
        packs.epoch_reported(worker, ended)
        new = packs.refill(worker)
        if not packs.members(worker):
            packs.remove_worker(worker)
            return str(TrialScheduler.STOP)
        if ended or new:
            # takes effect before the next step: an actor runs the calls of one process in their order
            trial.temporary_state.ray_actor.change.remote(ended, [self.configure(a) for a in new])
        return str(TrialScheduler.CONTINUE)

    def _forward(self, key: str, result: dict[str, Any]) -> bool:
        """Pass a trial's report to the queue and return whether the trial continues."""
        for remark in result.get("remarks", "").splitlines():
            self.log(key, remark)
        if "halted" in result:
            with contextlib.suppress(OSError):  # the log may be on a full disk; the reason is raised below
                self.log(key, f"{result['halted']}\n{result.get('trace', '')}")
            raise StudyHalted(f"trial {key} {result['halted']}")
        if "failed" in result:
            self.log(key, f"FAIL {result['failed']}\n{result.get('trace', '')}")
            self.queue.failed(key, result["failed"])
            return False
        metrics = {name: value for name, value in result.items() if is_metric(name, value)}
        if result.get("undeleted"):
            self.log(
                key, result["undeleted"]
            )  # the driver deletes again when the trial ends, and reports what is left
        opened = set(filter(None, result.get("opened", "").split(",")))
        if not opened <= self.opened:  # before the epoch is recorded, so that a kill cannot lose it
            self.opened |= opened
            self.splits_opened(opened)
        for name in filter(None, result.get("files", "").split(",")):
            self.file_written(key, name)
        decision = self.queue.report(key, int(result["epoch"]), metrics, result["checkpoint"])
        return decision is Decision.CONTINUE

    @capture_first_error(None)
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Requeue the trials of a lost worker (killed, out of memory, node gone); FAIL one that hung or raised.

        Which member of a pack was the cause is unknown: all are requeued, and each must report an epoch alone before it
        shares a worker again.
        """
        packs = self.packs
        keys = [trial.config["_service"]["key"]] if packs is None else packs.remove_worker(trial.trial_id)
        error = worker_error(trial)
        text = worker_error_text(error) if error else "the worker vanished"
        hung = self.watchdog.hung.pop(trial.trial_id, "")
        for key in keys:
            self.log(key, f"FAIL {hung}" if hung and len(keys) == 1 else f"worker lost: {hung or text}")
            if len(keys) > 1:
                self.queue.worker_lost(key, f"worker lost in a pack of {len(keys)}: {hung or text}")
            elif hung:
                self.queue.failed(key, hung)
            elif isinstance(error, RayTaskError):
                self.queue.failed(key, text)
            else:
                self.queue.worker_lost(key, f"worker lost: {text}")


def worker_error_text(error: Exception) -> str:
    """Return an exception's message on one line; of one with a worker's traceback, its first and last line."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    if len(lines) > 1 and any(line.startswith('File "') for line in lines):
        lines = [f"{lines[0].partition(', ray::')[0]}:", lines[-1]]  # the last line names the exception
    return one_line(" ".join(lines), limit=300)


def is_metric(name: str, value: Any) -> bool:
    """Return whether an entry of a report is a metric of the trial; Tune adds entries of its own."""
    ours = name.startswith(("val/", "train/")) or (name in METRICS and METRICS[name].group == EPOCH)
    return ours and isinstance(value, (int, float))


class StopFlag(NotCheckpointed, Stopper):
    """Stopper that ends Tune's loop once `stop_requested()`; running trials stay RUNNING in the storage."""

    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        self.stop_requested = stop_requested

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.stop_requested()


def run_queue(
    queue: TrialQueue,
    *,
    assets: Assets,
    run_uri: str,
    validation: Mapping[str, Any],
    resources: Mapping[str, float],
    concurrency: int,
    log: Logger,
    file_written: Logger,
    splits_opened: Callable[[set[str]], None],
    asked_to_stop: Callable[[], bool],
    epoch_timeout_s: float | None = None,
    longest_epoch_s: float = 0.0,
    pack: int = 1,
    cache_dir: str = "",
) -> None:
    """Run a queue's trials on Ray Tune until none is left or a stop is requested.

    Tune only executes: every call makes a new Tuner with its files in a temporary folder; no snapshot is ever read.

    Args:
        log: called with (trial key, text) for the trial's log.
        file_written: called with (trial key, name in the run folder) for each file that a method wrote.
        splits_opened: called with the names of the splits that a trial opened, before that trial's epoch is recorded.
        epoch_timeout_s, longest_epoch_s: see `Watchdog`.
        concurrency: workers at a time.
        pack: most trials that share a worker.
        cache_dir: of the trials, whatever their stored configurations say; "" is the user's own.

    Raises:
        StudyHalted: the disk that takes the checkpoints is full; the trials in flight stay RUNNING.
        Exception: what the queue, its storage or its listeners raised.
    """
    patch_tune()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every failure is in the trial's log and state
    first_error = FirstError()
    watchdog = Watchdog(epoch_timeout_s, longest_epoch_s * pack)

    def configure(assignment: Assignment) -> dict[str, Any]:
        return configuration(assignment, run_uri, validation, int(resources["cpu"]), cache_dir)

    trainable = tune.with_parameters(StudyTrainable if pack == 1 else PackedTrainable, assets=assets)
    while not queue.finished and not asked_to_stop():
        packs = PackAssignment(queue, pack) if pack > 1 else None
        scheduler = QueueScheduler(
            queue, log, file_written, splits_opened, watchdog, first_error, configure, packs
        )
        with tempfile.TemporaryDirectory(prefix="robust-tune-") as scratch:
            storage = scratch if "://" not in run_uri else f"{run_uri}/.tune"
            tune.Tuner(
                tune.with_resources(trainable, dict(resources)),
                param_space={},
                tune_config=tune.TuneConfig(
                    num_samples=-1,
                    search_alg=QueueSearcher(queue, configure, first_error, packs),
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
                    callbacks=[watchdog],
                    stop=StopFlag(lambda: first_error.error is not None or asked_to_stop()),
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()
        if first_error.error is not None:
            raise first_error.error
        queue.reclaim()


def configuration(
    assignment: Assignment, folder: str, validation: Mapping[str, Any], cpus: int, cache_dir: str = ""
) -> dict[str, Any]:
    """Return the `config` of a trainable for a trial that gets so many CPUs; it may have begun where there are more."""
    return {
        **with_threads(assignment.configuration, cpus),
        "seed": assignment.seed,
        "cache_dir": cache_dir,
        "validation": dict(validation),
        "_service": {
            "key": assignment.key,
            "method": assignment.method,
            "pretrain_seed": assignment.pretrain_seed,
            "folder": folder,
            "checkpoint": assignment.checkpoint,
            "validated": list(assignment.validated),
            "compared": list(assignment.compared),
            "deciding": list(assignment.deciding),
            "kept": list(assignment.kept),
        },
    }


def _trial_name(trial: Any) -> str:
    name = "pack" if "pack" in trial.config else trial.config["_service"]["key"]
    return f"{name}-{trial.trial_id}"
