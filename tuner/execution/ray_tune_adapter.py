"""Between a trial queue and Ray Tune: a searcher and a scheduler without a thought of their own."""

import contextlib
import functools
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from trainables.ray.packed_trainable import PackedTrainable
from trainables.ray.trainable import Assets, StudyTrainable
from tuner.base.errors import StudyHalted
from tuner.base.records import Decision
from tuner.base.text import one_line
from tuner.execution.pack_assignment import Packs
from tuner.execution.ray_patch import report_lost_workers_as_actor_errors
from tuner.execution.trial_queue import Assignment, TrialQueue
from tuner.execution.watchdog import LivesInTheDriver, Watchdog

Logger = Callable[[str, str], None]  # (trial key, text)


class Halt:
    """Why Tune has to end: the first exception of our own code under it, raised again once Tune is out of the way.

    Tune would wrap it in a TuneError whose message is a traceback.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None


def halting(answer: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method that Tune calls keep its exception in `self.halt` and give Tune an answer instead."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.halt.error is None:
                try:
                    return method(self, *args, **kwargs)
                except Exception as error:
                    self.halt.error = error
            return answer

        return kept

    return decorate


class QueueSearcher(LivesInTheDriver, Searcher):
    """Hands the queue's trials to Tune. Nothing of it is saved: the queue is rebuilt from the storage.

    Args:
        configure: turns an assignment into a trainable's configuration.
        packs: if given, one trial of Tune is a worker that trains a pack of the queue's.
    """

    def __init__(
        self,
        queue: TrialQueue,
        configure: Callable[[Assignment], dict[str, Any]],
        halt: Halt,
        packs: Packs | None = None,
    ) -> None:
        super().__init__(metric=queue.objectives[0].metric, mode="max")
        self.queue, self.configure, self.halt, self.packs = queue, configure, halt, packs

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    @halting(Searcher.FINISHED)
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
        # FINISHED is for good: while a trial runs its worker may die and the trial come back
        return Searcher.FINISHED if self.queue.finished else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the scheduler has told the queue already, with the reason at hand."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: no state."""


class QueueScheduler(LivesInTheDriver, FIFOScheduler):
    """Passes every report to the queue and stops the trial when the queue says so."""

    def __init__(
        self,
        queue: TrialQueue,
        log: Logger,
        keep: Logger,
        opened: Callable[[set[str]], None],
        watchdog: Watchdog,
        halt: Halt,
        configure: Callable[[Assignment], dict[str, Any]] = lambda assignment: {},
        packs: Packs | None = None,
    ) -> None:
        super().__init__()
        self.queue, self.log, self.keep, self.note_opened = queue, log, keep, opened
        self.watchdog, self.halt = watchdog, halt
        self.configure, self.packs = configure, packs
        self.opened: set[str] = set()

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    @halting(TrialScheduler.STOP)
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.packs is not None:
            return self._on_pack(trial, result["pack"], self.packs)
        goes_on = self._take(trial.config["_service"]["key"], result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _on_pack(self, trial: Any, reports: list[dict[str, Any]], packs: Packs) -> str:
        """Take the report of every member; those that end leave, and others take their places."""
        worker = trial.trial_id
        ended = [report["key"] for report in reports if not self._take(report["key"], report)]
        packs.reported(worker, ended)
        new = packs.refill(worker)
        if not packs.members(worker):
            packs.dismiss(worker)
            return str(TrialScheduler.STOP)
        if ended or new:
            # before the next step: an actor does what one process asks of it in that order
            trial.temporary_state.ray_actor.change.remote(ended, [self.configure(a) for a in new])
        return str(TrialScheduler.CONTINUE)

    def _take(self, key: str, result: dict[str, Any]) -> bool:
        """Pass a trial's report to the queue and return whether the trial goes on."""
        for remark in result.get("remarks", "").splitlines():
            self.log(key, remark)
        if "full" in result:
            with contextlib.suppress(OSError):  # the log may lie on that disk, and the reason goes up anyway
                self.log(key, f"{result['full']}\n{result.get('trace', '')}")
            raise StudyHalted(f"trial {key} cannot write: {result['full']}; make room")
        if "failed" in result:
            self.log(key, f"FAIL {result['failed']}\n{result.get('trace', '')}")
            self.queue.failed(key, result["failed"])
            return False
        metrics = {name: value for name, value in result.items() if is_metric(name, value)}
        if result.get("undeleted"):
            self.log(key, result["undeleted"])  # the driver tries again when the trial ends, and says so
        opened = set(filter(None, result.get("opened", "").split(",")))
        if not opened <= self.opened:  # before the epoch is recorded: a kill must not lose it
            self.opened |= opened
            self.note_opened(opened)
        for name in filter(None, result.get("files", "").split(",")):
            self.keep(key, name)
        decision = self.queue.report(key, int(result["epoch"]), metrics, result["checkpoint"])
        return decision is Decision.CONTINUE

    @halting(None)
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker vanished (killed, out of memory, node gone): into the queue again. Hung or raised: FAIL.

        Whose fault it was in a pack cannot be told from here: all go back, and each has to report an epoch alone
        before it shares a worker again.
        """
        packs = self.packs
        keys = [trial.config["_service"]["key"]] if packs is None else packs.dismiss(trial.trial_id)
        error = what_ended(trial)
        text = worker_error_text(error) if error else "the worker vanished"
        hung = self.watchdog.hung.pop(trial.trial_id, "")
        for key in keys:
            self.log(key, f"FAIL {hung}" if hung and len(keys) == 1 else f"worker lost: {hung or text}")
            if len(keys) > 1:
                self.queue.died(key, f"worker lost in a pack of {len(keys)}: {hung or text}")
            elif hung:
                self.queue.failed(key, hung)
            elif isinstance(error, RayTaskError):
                self.queue.failed(key, text)
            else:
                self.queue.died(key, f"worker lost: {text}")


def worker_error_text(error: Exception) -> str:
    """Return an exception's text in one line; of one that holds a worker's traceback, its beginning and its end."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    if len(lines) > 1 and any(line.startswith('File "') for line in lines):
        lines = [f"{lines[0].partition(', ray::')[0]}:", lines[-1]]  # what was raised stands in the last line
    return one_line(" ".join(lines), limit=300)


def what_ended(trial: Any) -> Exception | None:
    """Return the exception that a trial's worker ended with.

    `trial.get_error()` reads it where Tune's files are copied to, and it is not copied yet when the scheduler is told.
    """
    path = trial.pickled_error_file  # in the driver's own temporary folder
    if path is None or not Path(path).exists():
        return None
    error: Exception = ray.cloudpickle.loads(Path(path).read_bytes())
    return error


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
    opened: Callable[[set[str]], None],
    asked_to_stop: Callable[[], bool],
    epoch_timeout_s: float | None = None,
    longest_epoch_s: float = 0.0,
    pack: int = 1,
) -> None:
    """Run a queue's trials on Ray Tune until none is left or a stop is asked for.

    Tune only executes: a fresh Tuner every time, its own files in a temporary folder, no snapshot is ever read.

    Args:
        log: takes (trial key, text) for the trial's log.
        keep: takes (trial key, name of a file in the run folder) for what a method left.
        opened: takes the names of the splits that a trial opened, before that trial's epoch is recorded.
        epoch_timeout_s, longest_epoch_s: see `Watchdog`.
        pack: how many trials at most share a worker; `concurrency` then counts workers.

    Raises:
        StudyHalted: the disk that takes the checkpoints is full; the trials in flight stay RUNNING.
        Exception: what the queue, its storage or its listeners raised.
    """
    report_lost_workers_as_actor_errors()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every failure is in the trial's log and state
    halt = Halt()
    watchdog = Watchdog(epoch_timeout_s, longest_epoch_s * pack)

    def configure(assignment: Assignment) -> dict[str, Any]:
        return configuration(assignment, run_uri, validation)

    trainable = tune.with_parameters(StudyTrainable if pack == 1 else PackedTrainable, assets=assets)
    while not queue.finished and not asked_to_stop():
        packs = Packs(queue, pack) if pack > 1 else None
        scheduler = QueueScheduler(queue, log, keep, opened, watchdog, halt, configure, packs)
        with tempfile.TemporaryDirectory(prefix="robust-tune-") as scratch:
            storage = scratch if "://" not in run_uri else f"{run_uri}/.tune"
            tune.Tuner(
                tune.with_resources(trainable, dict(resources)),
                param_space={},
                tune_config=tune.TuneConfig(
                    num_samples=-1,
                    search_alg=QueueSearcher(queue, configure, halt, packs),
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
                    stop=StopFlag(lambda: halt.error is not None or asked_to_stop()),
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()
        if halt.error is not None:
            raise halt.error
        queue.reclaim()


def configuration(assignment: Assignment, folder: str, validation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trainable is told of a trial."""
    return {
        **assignment.configuration,
        "seed": assignment.seed,
        "validation": dict(validation),
        "_service": {
            "key": assignment.key,
            "method": assignment.method,
            "pretrain_seed": assignment.pretrain_seed,
            "folder": folder,
            "checkpoint": assignment.checkpoint,
        },
    }


def _trial_name(trial: Any) -> str:
    name = "pack" if "pack" in trial.config else trial.config["_service"]["key"]
    return f"{name}-{trial.trial_id}"
