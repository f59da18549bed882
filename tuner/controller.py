"""Runs the stages of a study on Ray. All state is in the storage; any moment may be the last."""

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from search_spaces.study import Arm, fixed
from trainables import get
from trainables.base import Assets
from trainables.errors import InputError
from trainables.options import fields_of
from trainables.seeds import derive_seed
from tuner import jobs
from tuner.bridge import run_queue
from tuner.errors import StudyFailed
from tuner.plan import LanePlan, Plan
from tuner.queue import Lane, Listener, Planned, TrialQueue, best, point_of
from tuner.records import Role, State, TrialRecord
from tuner.resources import Resources
from tuner.results import ArmResult
from tuner.run_folder import RunFolder
from tuner.scheduler import Point, dominates
from tuner.searcher import LaneStore, importances, open_storage
from tuner.signals import Signals


class Controller:
    """One driver of one run.

    Attributes:
        lanes: the stores of the searches, "search" first; `confirm` that of the confirm stage.
        reference: validation metrics of the pretrained classifier, {} where the method has none.
        timings: {stage: seconds of wall time} of this driver.
        problems, remarks: what went wrong (exit status 1) and what the user should know, one line each.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        storage_url: str,
        resources: Resources,
        listeners: Sequence[Listener],
        signals: Signals,
        progress: Callable[[int, int, str], None],
    ) -> None:
        self.plan, self.folder, self.resources = plan, folder, resources
        self.listeners, self.signals, self.progress = listeners, signals, progress
        self.storage = open_storage(storage_url)
        self.lanes = {lane.name: self._store(lane) for lane in plan.lanes}
        self.search = self.lanes["search"]
        self.confirm = LaneStore(
            self.storage, f"{folder.name}/confirm", "confirm", Role.CONFIRM, {}, plan.objectives, plan.seed
        )
        self.timings: dict[str, float] = {}
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self._assets: Assets | None = None
        self._test_benchmark: Any = None

    def _store(self, lane: LanePlan) -> LaneStore:
        name = self.folder.name if lane.name == "search" else f"{self.folder.name}/{lane.name}"
        return LaneStore(
            self.storage, name, lane.name, Role(lane.role), lane.space, self.plan.objectives, self.plan.seed
        )

    def _problem(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)

    # -- what is known ---------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial of every lane."""
        found = [record for store in self.lanes.values() for record in store.records()]
        return found + self.confirm.records()

    @property
    def reference(self) -> dict[str, float]:
        found: dict[str, float] = self.search.notes().get("reference", {})
        return found

    def tests(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics} of what was evaluated."""
        return {
            key.removeprefix("evaluation/"): value
            for key, value in self.search.notes().items()
            if key.startswith("evaluation/")
        }

    def point(self, metrics: Mapping[str, float]) -> Point:
        return point_of(self.plan.objectives, metrics)

    def feasible(self, record: TrialRecord) -> bool:
        """Return whether a complete trial meets every floor."""
        if record.state is not State.COMPLETE:
            return False
        return all(
            record.last[f.metric] >= f.bound(self.reference.get(f.metric)) - 1e-9 for f in self.plan.floors
        )

    def best(self, lane: str = "search") -> TrialRecord | None:
        return best(self.lanes[lane].records(), self.point, self.feasible)

    def pareto(self) -> list[str]:
        """Return the keys of the feasible trials that no other dominates in objectives and floors' metrics."""
        records = [r for r in self.search.records() if self.feasible(r)]
        axes = {r.key: (*self.point(r.last), *(r.last[f.metric] for f in self.plan.floors)) for r in records}
        return [
            key for key, point in axes.items() if not any(dominates(other, point) for other in axes.values())
        ]

    def importances(self) -> dict[str, float]:
        return importances(self.storage, self.folder.name)

    # -- preparing -------------------------------------------------------------------------------------

    def _remote(self, function: Callable[..., Any], gpu: bool = True) -> Any:
        gpus = self.resources.gpus_per_trial if gpu else 0
        return ray.remote(function).options(
            num_cpus=self.resources.cpus_per_trial, num_gpus=gpus, max_retries=3
        )

    def _wait(self, refs: Sequence[Any]) -> list[Any]:
        """Return the results of jobs in their order, looking out for signals."""
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
            job = self._remote(jobs.load_benchmark, gpu=False)
            (benchmark,) = self._wait([job.remote(self.plan.dataset, self.plan.data_dir, "search")])
            self._assets = Assets(benchmark)
        source = self._pretrain_source()
        if source is not None:
            missing = [seed for seed in seeds if seed not in self._assets.pretrained]
            shared = ray.put(self._assets.benchmark)
            job = self._remote(jobs.pretrain)
            protocol = self.plan.validation_protocol()
            found = self._wait([job.remote(*source, seed, shared, protocol) for seed in missing])
            for seed, (state, metrics) in zip(missing, found, strict=True):
                self._assets.pretrained[seed] = state
                if seed == self.plan.seed and not self.reference:
                    self.search.note("reference", metrics)
        self._clock("prepare", started)
        return self._assets

    def _pretrain_source(self) -> tuple[str, dict[str, Any]] | None:
        """Return the method and settled options that define the pretraining, or None if nothing starts from it."""
        for lane in self.plan.lanes:
            keys = fields_of(get(lane.method).load_options())
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
        lanes = [
            Lane(self.lanes[p.name], p.method, p.fixed, p.trials, self.plan.seed) for p in self.plan.lanes
        ]
        deadline = math.inf
        if self.plan.time_budget_s is not None:
            deadline = time.monotonic() + self.plan.time_budget_s
        self._run(lanes, assets, deadline, "search")
        records = self.search.records()
        if records and all(r.state is State.FAIL for r in records):
            raise StudyFailed(f"every trial failed; most often: {commonest([r.reason for r in records])}")

    def _run(self, lanes: list[Lane], assets: Assets, deadline: float, what: str) -> None:
        started = time.monotonic()
        queue = TrialQueue(
            lanes,
            self.plan.objectives,
            seed=self.plan.seed,
            max_epochs=self.plan.max_epochs,
            rungs=self.plan.rungs,
            reduction=self.plan.reduction,
            floors=self.plan.floors,
            reference=self.reference,
            listeners=self.listeners,
            deadline=deadline,
        )
        if not queue.finished:
            opened = run_queue(
                queue,
                assets=assets,
                run_uri=self.folder.uri,
                validation=self.plan.validation,
                resources=self.resources.as_request(),
                concurrency=self.resources.concurrency,
                log=self.folder.log,
                keep=self._keep,
                asked_to_stop=self.signals.asked,
            )
            if what == "search":
                known = set(self.folder.read()[1].get("read_by_search", []))
                self.folder.update(read_by_search=sorted(known | opened))
        self._clock(what, started)
        self.signals.check()

    def _keep(self, key: str, name: str) -> None:
        """Hand a file that a trial left to MLflow; from an object store it is fetched first."""
        path = self.folder.local / name
        if self.folder.remote:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.folder.files.read(name))
        for listener in self.listeners:
            listener.left(key, path)

    def run_evaluate(self, records: Sequence[TrialRecord]) -> None:
        """Score the checkpoints of complete trials on the sealed test splits; what has a score is skipped."""
        started = time.monotonic()
        done = self.tests()
        todo = [r for r in records if r.state is State.COMPLETE and r.key not in done]
        if todo:
            if self._test_benchmark is None:
                job = self._remote(jobs.load_benchmark, gpu=False)
                self._test_benchmark = job.remote(self.plan.dataset, self.plan.data_dir, "evaluate")
            job = self._remote(jobs.evaluate_checkpoint)
            protocol = self.plan.test_protocol()
            waiting = {
                job.remote(
                    self.folder.uri, r.checkpoint, self._test_benchmark, protocol, self.plan.cpus_per_trial
                ): r
                for r in todo
            }
            while waiting:
                self.signals.check()
                ready, _ = ray.wait(list(waiting), timeout=0.2)
                for ref in ready:
                    self._evaluated(waiting.pop(ref), ref)
                    self.progress(len(todo) - len(waiting), len(todo), "evaluated")
        self._clock("evaluate", started)

    def _evaluated(self, record: TrialRecord, ref: Any) -> None:
        try:
            metrics, scores = ray.get(ref)
        except Exception as error:
            reason = " ".join(str(error).split())[-300:]
            self.folder.log(record.key, f"evaluation failed: {error}")
            self._problem(f"evaluation of {record.key} failed: {reason}")
            return
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{k: v.astype(np.float32) for k, v in scores.items()})
        self.folder.files.write(f"evaluations/{record.key}.npz", buffer.getvalue())
        self.search.note(f"evaluation/{record.key}", metrics)
        for listener in self.listeners:
            listener.evaluated(record, metrics)

    def strip(self, winner: TrialRecord) -> dict[str, Any] | None:
        """Return some of the winner's outliers before and after its attack, or None if it has none."""
        assets = self.prepare([])
        job = self._remote(jobs.outlier_strip)
        (found,) = self._wait([job.remote(self.folder.uri, winner.checkpoint, assets.benchmark)])
        strip: dict[str, Any] | None = found
        return strip

    def winner_network(self, winner: TrialRecord) -> tuple[Any, Any]:
        """Return the winner's classifier and an example batch of validation images, for the model registry."""
        assets = self.prepare([])
        return jobs.winner_network(self.folder.uri, winner.checkpoint, assets.benchmark)

    def scores(self, key: str) -> dict[str, Any]:
        """Return the stored outlier scores of an evaluated trial."""
        try:
            data = self.folder.files.read(f"evaluations/{key}.npz")
        except FileNotFoundError:
            return {}
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def run_confirm(self) -> None:
        """Retrain the winner and every arm with fresh seeds, and score them on the test splits."""
        winner = self.best()
        if winner is None:
            raise StudyFailed(self._no_winner())
        planned = self._plan_confirm(winner)
        assets = self.prepare(sorted({item.pretrain_seed for item in planned.values()}))
        lane = Lane(
            self.confirm, "", {}, max(planned, default=-1) + 1, 0, early_stopping=False, planned=planned
        )
        self._run([lane], assets, math.inf, "confirm")
        self.run_evaluate(self._current(self.confirm.records()))

    def _plan_confirm(self, winner: TrialRecord) -> dict[int, Planned]:
        """Return {trial number: work}; what an earlier launch did for the same arms keeps its number.

        A run that was extended may have another winner: its old confirm trials stay in the storage, unused.
        """
        arms = self.confirm_arms(winner)
        roles = {arm.name: arm.role for arm in self.plan.arms}
        existing = self.confirm.records()
        planned: dict[int, Planned] = {}
        following = len(existing)
        for k in range(self.plan.confirm_seeds):
            seed = derive_seed(self.plan.seed, "confirm", k) % 2**31
            for arm, (method, configuration) in arms.items():
                attrs = {"arm": arm, "seed_index": k, "role": roles.get(arm, Role.CONFIRM.value)}
                item = Planned(configuration, method, seed, seed, attrs)
                done = next((r.number for r in existing if item.is_of(r)), None)
                planned[following if done is None else done] = item
                following += done is None
        for record in existing:
            if record.state is State.RUNNING and record.number not in planned:
                self.confirm.finish(record.number, State.FAIL, "superseded: the run has another winner now")
        return planned

    def _current(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Return the confirm trials of the arms as they are now."""
        winner = self.best()
        if winner is None:
            return []
        arms = self.confirm_arms(winner)
        return [r for r in records if arms.get(r.arm) == (r.method, dict(r.configuration))]

    def confirm_arms(self, winner: TrialRecord) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return {arm: (method, configuration)}; an arm whose own search has no feasible winner is left out."""
        found = {"best": (self.plan.method, dict(winner.configuration))}
        for arm in self.plan.arms:
            if arm.search:
                own = self.best(arm.name)
                if own is None:
                    self._remark(f"arm {arm.name} has no feasible trial and is not confirmed")
                    continue
                found[arm.name] = (arm.method or self.plan.method, dict(own.configuration))
            else:
                found[arm.name] = self._derived(arm, winner)
        return found

    def _derived(self, arm: Arm, winner: TrialRecord) -> tuple[str, dict[str, Any]]:
        method = arm.method or self.plan.method
        known = fields_of(get(method).load_options())
        configuration = {k: v for k, v in winner.configuration.items() if k in known and k not in arm.drop}
        return method, configuration | fixed(arm.overrides)

    def _no_winner(self) -> str:
        complete = [r for r in self.search.records() if r.state is State.COMPLETE]
        if not complete:
            return "no trial of the search is complete; nothing to confirm"
        floors = "; ".join(map(str, self.plan.floors))
        return f"none of {len(complete)} complete trials meets the floor ({floors}); nothing to confirm"

    def arm_results(self) -> list[ArmResult]:
        """Return the confirm stage by arm, over the seeds that every arm has finished: pairs stay pairs."""
        tests = self.tests()
        by_arm: dict[str, dict[int, TrialRecord]] = {}
        for record in self._current(self.confirm.records()):
            if record.key in tests:
                by_arm.setdefault(record.arm, {})[record.seed_index] = record
        if "best" not in by_arm:
            return []
        about = {arm.name: (arm.role, arm.about) for arm in self.plan.arms} | {
            "best": ("confirm", "the winner")
        }
        shared = sorted(set.intersection(*(set(found) for found in by_arm.values())))
        results = []
        for arm, found in by_arm.items():
            rows = [tests[found[k].key] for k in shared]
            values = {m: [row[m] for row in rows] for m in (rows[0] if rows else {})}
            seconds = sum(found[k].seconds for k in shared) / max(1, len(shared))
            role, text = about.get(arm, ("control", ""))
            results.append(
                ArmResult(arm, role, text, next(iter(found.values())).configuration, values, seconds)
            )
        return sorted(results, key=lambda arm: arm.name != "best")


def commonest(reasons: Sequence[str]) -> str:
    """Return the reason that occurs most, with its count."""
    if not reasons:
        return "no reason recorded"
    top = max(set(reasons), key=lambda reason: (reasons.count(reason), reason))
    return f"{top} ({reasons.count(top)} of {len(reasons)})"
