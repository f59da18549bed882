"""Trains and evaluates the trials of each stage on Ray. All state is in the storage, so that a kill loses none."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayTaskError

from trainables.base.errors import InputError
from trainables.base.storage import Folder
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.inference.registrable import Registrable
from trainables.options import fields_of
from trainables.options.methods import METHODS
from trainables.ray.assets import Assets
from tuner.analysis.results import ArmResult
from tuner.analysis.verdict import no_winner_reason
from tuner.base.errors import StudyFailed
from tuner.base.records import State, TrialRecord, most_common
from tuner.base.signals import Signals
from tuner.base.text import one_line
from tuner.base.trial_listener import TrialListener
from tuner.devices.resources import Resources
from tuner.execution import confirmation
from tuner.execution.ray_tune_adapter import run_queue
from tuner.execution.remaining_work import unmeasured
from tuner.execution.remote_call import call
from tuner.execution.run_stores import RunStores
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.planning.outlier_files import outlier_files
from tuner.planning.plan import Plan
from tuner.search.budget import NO_BUDGET, SearchBudget, share_of
from tuner.store.database import connection_lost
from tuner.store.plan_file import of_test_data
from tuner.store.run_folder import RunFolder

TASKS = "tuner.execution.remote_tasks"


class Controller:
    """One driver of one run.

    Attributes:
        stores: the run's trials and evaluations.
        timings: {stage: seconds of wall time} of this driver.
        problems, remarks: what went wrong (exit status 1) and what the user should know, one line each.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        storage_url: str,
        resources: Resources,
        listeners: Sequence[TrialListener],
        signals: Signals,
        progress: Callable[[int, int, str], None],
        stores: RunStores | None = None,
    ) -> None:
        """Drive a run.

        Args:
            stores: of the run, if they are open.
        """
        self.plan, self.folder, self.resources = plan, folder, resources
        self.listeners, self.signals, self.progress = listeners, signals, progress
        self.storage_url = storage_url
        self.stores = stores or RunStores(plan, folder, storage_url)
        self.timings: dict[str, float] = {}
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self._assets: Assets | None = None
        self._test_benchmark: Any = None
        self._data_version: Any = None

    def _problem(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)

    # -- preparing -------------------------------------------------------------------------------------

    def _remote(self, reference: str, gpu: bool = True, returns: int = 1) -> Callable[..., Any]:
        """Return what starts the function "module:name" on a worker and returns references to its results.

        Without Ray it is called in this process, and returns its results.
        """
        if not ray.is_initialized():
            return partial(call, reference)
        gpus = self.resources.gpus_per_job if gpu else 0
        task: Any = ray.remote(call).options(
            name=reference.partition(":")[2],
            num_cpus=self.resources.cpus_per_trial,
            num_gpus=gpus,
            max_retries=3,
            num_returns=returns,
        )
        return partial(task.remote, reference)

    def _wait(self, refs: Sequence[Any]) -> list[Any]:
        """Return the results of jobs in their order, looking out for signals."""
        if not ray.is_initialized():
            return list(refs)
        left = list(refs)
        while left:
            self.signals.check()
            _, left = ray.wait(left, num_returns=len(left), timeout=0.2)
        try:
            return list(ray.get(list(refs)))
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, InputError):
                raise cause from None  # the user's line, not a remote traceback
            raise

    def prepare(self, seeds: Sequence[int]) -> Assets:
        """Load the sealed benchmark once and see that the pretrained classifiers of these seeds exist."""
        started = time.monotonic()
        if self._assets is None:
            job = self._remote(f"{TASKS}:load_benchmark", gpu=False)
            (benchmark,) = self._wait([job(self.plan.dataset, self.plan.data_dir, "search")])
            self._look_for_leaks()
            if "classes" not in self.folder.entries():
                self.folder.update(classes=list(benchmark.info.class_names))
            self._assets = Assets(benchmark)
        source = self._pretrain_source()
        missing = [seed for seed in seeds if seed not in self._assets.pretrained]
        if source is not None and missing:
            shared = ray.put(self._assets.benchmark)
            job = self._remote(f"{TASKS}:pretrain")
            protocol = self.plan.validation_protocol()
            found = self._wait([job(*source, seed, shared, protocol) for seed in missing])
            for seed, (state, metrics) in zip(missing, found, strict=True):
                self._assets.pretrained[seed] = state
                if seed == self.plan.seed and not self.stores.reference:
                    self.stores.search.note("reference", metrics)
        self._clock("prepare", started)
        return self._assets

    def _look_for_leaks(self) -> None:
        """Store in plan.json which images stand in two sets, once for a run.

        Raises:
            DataFileError: test images are trained on, and the plan does not allow it.
        """
        if "duplicates" in self.folder.entries():
            return
        plan = self.plan
        files = [options for lane in plan.lanes for options in outlier_files(lane)]
        job = self._remote("trainables.data.loading.leakage:leakage_notes", gpu=False)
        (lines,) = self._wait(
            [job(plan.dataset, plan.data_dir, list(dict.fromkeys(files)), plan.allow_duplicates)]
        )
        self.folder.update(duplicates=list(lines))

    def _pretrain_source(self) -> tuple[str, dict[str, Any]] | None:
        """Return the method and settled options that define the pretraining, or None if nothing starts from it."""
        for lane in self.plan.lanes:
            keys = fields_of(METHODS[lane.method].options)
            if "pretrain.epochs" in keys:
                return lane.method, dict(lane.fixed)
        return None

    def _clock(self, what: str, started: float) -> None:
        self.timings[what] = self.timings.get(what, 0.0) + time.monotonic() - started

    # -- stages ----------------------------------------------------------------------------------------

    def run_search(self) -> None:
        """Run every search to its number of trials.

        Raises:
            Interrupted: a signal came.
            StudyFailed: not one trial of the study's own search is left standing.
        """
        assets = self.prepare([self.plan.seed])  # done already in a whole run

        def lanes() -> list[Lane]:
            return [
                Lane(self.stores.lanes[p.name], p.method, p.fixed, p.trials, self.plan.seed)
                for p in self.plan.lanes
            ]

        deadline = math.inf
        if self.plan.time_budget_s is not None:
            deadline = time.monotonic() + self.plan.time_budget_s
        self._run(lanes, assets, deadline, "search", self.plan.budget)
        records = self.stores.search.records()
        if records and all(r.state is State.FAIL for r in records):
            reason = most_common([r.reason for r in records])
            what = "the training failed" if self.plan.trains_one else "every trial failed; most often"
            raise StudyFailed(f"{what}: {reason}")

    def _run(
        self,
        lanes: Callable[[], list[Lane]],
        assets: Assets,
        deadline: float,
        what: str,
        budget: SearchBudget = NO_BUDGET,
    ) -> None:
        """Run the trials of a stage; if the database server was restarted under them, go on as a resume would."""
        started = time.monotonic()
        while True:
            try:
                self._run_queue(lanes(), assets, deadline, what, budget)
                break
            except Exception as error:
                if not connection_lost(error):
                    raise
                self._remark(
                    "the study's database was away; the trials in flight went on from their checkpoints"
                )
                self.stores = RunStores(self.plan, self.folder, self.storage_url)
        self._clock(what, started)
        self.signals.check()

    def _run_queue(
        self, lanes: list[Lane], assets: Assets, deadline: float, what: str, budget: SearchBudget
    ) -> None:
        queue = TrialQueue(
            lanes,
            self.plan.objectives,
            seed=self.plan.seed,
            max_epochs=self.plan.max_epochs,
            schedule=self.plan.schedule,
            floors=self.plan.floors,
            reference=self.stores.reference,
            listeners=self.listeners,
            deadline=deadline,
            budget=budget,
            learning_curves=self.plan.learning_curves,
            by_best_epoch=self.plan.epoch == "best",
            usage_rates=share_of(self.resources.cpus_per_trial, self.resources.gpus_per_trial),
        )
        if not queue.finished:
            run_queue(
                queue,
                assets=assets,
                run_uri=self.folder.uri,
                validation=self.plan.validation,
                resources=self.resources.as_request(),
                concurrency=self.resources.concurrency,
                log=self.folder.log,
                file_written=self._keep,
                splits_opened=self._opened_by_search if what == "search" else lambda names: None,
                asked_to_stop=self.signals.stop_requested,
                epoch_timeout_s=self.plan.epoch_timeout_s,
                longest_epoch_s=max((r.longest_epoch_s for r in self.stores.records()), default=0.0),
                pack=self.resources.pack,
                cache_dir=self.plan.cache_dir,
            )
        missing = sum(max(0, lane.target - lane.asked) for lane in lanes if not lane.exhausted)
        if missing and budget.is_spent(queue.usage):
            self._remark(
                f"the budget is spent: {missing} of {sum(x.target for x in lanes)} trials were not started"
            )

    def _opened_by_search(self, names: set[str]) -> None:
        known = set(self.folder.entries().get("read_by_search", []))
        if not names <= known:
            self.folder.update(read_by_search=sorted(known | names))

    def _keep(self, key: str, name: str) -> None:
        """Hand a file that a trial left to MLflow; from an object store it is fetched first."""
        path = self.folder.local / name
        if self.folder.remote:
            Folder(self.folder.local).write(name, self.folder.files.read(name), durable=False)
        for listener in self.listeners:
            listener.artifact_written(key, path)

    def run_evaluate(self, records: Sequence[TrialRecord]) -> None:
        """Score the checkpoints of complete trials on the sealed test splits.

        What was scored under the same protocol is skipped; the same checkpoint, protocol and data are scored once
        on a machine, whatever the run.
        """
        started = time.monotonic()
        todo = unmeasured(self.plan, records, self.stores.evaluations)
        if todo:
            if self._test_benchmark is None:
                self._test_benchmark = self._load_tests()
                self._data_version = self._remote(f"{TASKS}:data_version", gpu=False)(self._test_benchmark)
            job = self._remote(f"{TASKS}:evaluate_checkpoint")
            waiting = {
                job(
                    self.folder.uri,
                    checkpoint,
                    self._test_benchmark,
                    protocol,
                    self.plan.cpus_per_trial,
                    self._data_version,
                    self.plan.cache_dir,
                ): (r, checkpoint, protocol)
                for r, checkpoint, protocol in todo
            }
            while waiting:
                self.signals.check()
                ready, _ = ray.wait(list(waiting), timeout=0.2)
                for ref in ready:
                    self._evaluated(*waiting.pop(ref), ref)
                    self.progress(len(todo) - len(waiting), len(todo), "evaluated")
            (version,) = self._wait([self._data_version])
            if changes := of_test_data(self.folder.entries(), version):
                self.folder.update(**changes)
        self._clock("evaluate", started)

    def _load_tests(self) -> Any:
        """Return a reference to the benchmark with its test splits; what is to be said of it goes into plan.json."""
        job = self._remote(f"{TASKS}:load_tests", gpu=False, returns=2)
        plan = self.plan
        benchmark, notes = job(plan.dataset, plan.data_dir, plan.tested_groups, plan.cache_dir)
        (found,) = self._wait([notes])
        self.folder.update(test_data=list(found))
        return benchmark

    def _evaluated(
        self, record: TrialRecord, checkpoint: str, protocol: EvaluationProtocol, ref: Any
    ) -> None:
        try:
            found = ray.get(ref)
        except Exception as error:
            reason = one_line(error, limit=None)[-300:]
            self.folder.log(record.key, f"evaluation failed: {error}")
            self._problem(f"evaluation of {record.key} failed: {reason}")
            return
        if checkpoint != record.checkpoint:
            self.stores.evaluations.add_last_epoch(record.key, protocol, found.metrics)
            return
        name = self.stores.evaluations.add(
            record.key, protocol, found.metrics, found.remarks, found.scores_to_store()
        )
        if name:
            self._keep(record.key, name)
        for listener in self.listeners:
            listener.evaluated(record, found.metrics)

    def attack_examples(self, winner: TrialRecord) -> dict[str, Any] | None:
        """Return some of the winner's outliers before and after its attack, or None if it has none."""
        assets = self.prepare([])
        job = self._remote(f"{TASKS}:attack_examples")
        (found,) = self._wait([job(self.folder.uri, winner.checkpoint, assets.benchmark)])
        strip: dict[str, Any] | None = found
        return strip

    def winner_predictor(self, winner: TrialRecord, source: dict[str, Any]) -> Registrable:
        """Return the winner's predictor for the model registry.

        Raises:
            InputError: the network cannot be traced.
        """
        assets = self.prepare([])
        job = self._remote(f"{TASKS}:registrable_predictor")
        score = self.plan.test_protocol().score
        threads = self.plan.cpus_per_trial
        (found,) = self._wait(
            [job(self.folder.uri, winner.checkpoint, assets.benchmark, score, source, threads)]
        )
        predictor: Registrable = found
        return predictor

    def run_confirm(self) -> None:
        """Retrain the winner and every arm with fresh seeds, and score them on the test splits."""
        winner = self.stores.best()
        if winner is None:
            reason = no_winner_reason(self.plan, self.stores.search.records())
            raise StudyFailed(f"nothing to confirm: {reason}")
        arms = self._arms(winner)
        planned, superseded = confirmation.plan_trials(self.plan, self.stores.confirm, arms)
        if superseded or self.stores.superseded():
            self.stores.search.note("superseded", superseded)
        assets = self.prepare(sorted({item.pretrain_seed for item in planned.values()}))
        target = max(planned, default=-1) + 1

        def lanes() -> list[Lane]:
            return [Lane(self.stores.confirm, "", {}, target, 0, early_stopping=False, planned=planned)]

        self._run(lanes, assets, math.inf, "confirm")
        self.run_evaluate(confirmation.records_of_arms(self.stores.confirm.records(), arms))

    def _arms(self, winner: TrialRecord) -> confirmation.Arms:
        tuned = self.stores.tuned()
        for name in [name for name, own in tuned.items() if own is None]:
            self._remark(f"arm {name} has no feasible trial and is not confirmed")
        return confirmation.arms_of(self.plan, winner, tuned)

    def arm_results(self) -> list[ArmResult]:
        """Return the confirm stage by arm, over the seeds that every arm has finished: pairs stay pairs."""
        winner = self.stores.best()
        if winner is None:
            return []
        records = confirmation.records_of_arms(self.stores.confirm.records(), self._arms(winner))
        evaluations = self.stores.evaluations
        return confirmation.arm_results(self.plan, records, evaluations.metrics(), evaluations.last_epochs())
