"""Queue of a stage's trials: which runs next, and its state after each report. Imports no Ray: the adapter calls it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.study import Floor, Objective
from trainables.base.seeds import derive_seed
from tuner.analysis.selection import best_epoch, point_of
from tuner.base.records import Decision, State, TrialRecord
from tuner.base.trial_listener import TrialListener
from tuner.search.budget import NO_BUDGET, SearchBudget, Usage
from tuner.search.learning_curves import LearningCurves, Point
from tuner.search.schedulers import NoStopping, Place, Schedule, candidate_epochs, compared_epochs, decide
from tuner.store.trial_store import TrialStore

MAX_LOST_WORKERS = 4  # a trial fails after this many lost workers without an epoch between them


@dataclass(frozen=True)
class Assignment:
    """A trial that an executor is to run now.

    Attributes:
        key: the trial's name within the run.
        method: of `trainables.options.methods.METHODS`.
        configuration: {dotted option: value}.
        seed, pretrain_seed: of the trial's random streams, of the classifier it starts from.
        checkpoint: the file to continue from, relative to the run folder; "" to start.
        epochs: that it has reported.
        validated: the epochs after which it is validated.
        compared: those of them that serve a comparison with other trials alone: only `deciding` is measured there.
        deciding: the metrics of objectives and floors, and the clean accuracy.
        kept: the epochs that it may be judged by, whose checkpoints its worker keeps.
        attempt: how many times it has been started, this time included.
        lost_workers: since its last epoch.
    """

    key: str
    lane: str
    number: int
    method: str
    configuration: Mapping[str, Any]
    seed: int
    pretrain_seed: int
    checkpoint: str
    epochs: int
    attempt: int
    lost_workers: int = 0
    validated: tuple[int, ...] = ()
    compared: tuple[int, ...] = ()
    deciding: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()


@dataclass
class PlannedTrial:
    """A trial with a given configuration, as the confirm stage has them."""

    configuration: Mapping[str, Any]
    method: str
    seed: int
    pretrain_seed: int
    attrs: Mapping[str, Any]

    def is_of(self, record: TrialRecord) -> bool:
        """Return whether a stored trial is this one: same method, configuration, seed and arm."""
        return (record.method, record.configuration, record.seed, record.arm, record.seed_index) == (
            self.method,
            dict(self.configuration),
            self.seed,
            self.attrs["arm"],
            self.attrs["seed_index"],
        )


@dataclass
class Lane:
    """A source of trials: a search, whose store asks the sampler, or `planned` trials by number.

    Attributes:
        store: the trials of the lane.
        method, fixed: of a search's trials: the method and the options that are not searched.
        target: how many trials the lane is to have.
        pretrain_seed: of the classifier that trials start from.
        early_stopping: whether the schedule may stop a trial.
        exhausted: the sampler has no more trials to propose.
        waiting, running: numbers of trials to start again, of trials at work.
        lost_workers: {number: workers lost since its last epoch}.
    """

    store: TrialStore
    method: str
    fixed: Mapping[str, Any]
    target: int
    pretrain_seed: int
    early_stopping: bool = True
    planned: Mapping[int, PlannedTrial] = field(default_factory=dict)
    exhausted: bool = False
    waiting: list[int] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    lost_workers: dict[int, int] = field(default_factory=dict)
    curves: LearningCurves = field(default_factory=LearningCurves)

    @property
    def asked(self) -> int:
        return self.store.count


class TrialQueue:
    """State machine of a stage's trials over its lanes.

    `next` returns a trial to run; `report`, `failed` and `worker_lost` tell the queue how it went. All state is in the
    stores: a new queue over the same stores continues where the last one was.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        objectives: Sequence[Objective],
        *,
        seed: int,
        max_epochs: int,
        schedule: Schedule,
        floors: Sequence[Floor] = (),
        reference: Mapping[str, float] | None = None,
        listeners: Sequence[TrialListener] = (),
        deadline: float = math.inf,
        budget: SearchBudget = NO_BUDGET,
        usage_rates: Mapping[str, float] | None = None,
        learning_curves: bool = True,
        by_best_epoch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue the lanes from their stores.

        Args:
            deadline: no trial starts after this time of `clock`, in seconds.
            budget: no trial starts once it is spent.
            learning_curves: validate after every epoch, and not only where trials are compared and at their end.
            by_best_epoch: judge a complete trial by the best of `candidate_epochs`, and not by its last.
            usage_rates: {metric: factor}; each epoch is recorded with its "seconds" times the factor as this metric.
        """
        self.lanes = {lane.store.lane: lane for lane in lanes}
        self.objectives = tuple(objectives)
        self.seed, self.max_epochs = seed, max_epochs
        self.schedule = schedule
        self.floors, self.reference = tuple(floors), dict(reference or {})
        self.judged_metrics = [o.metric for o in self.objectives] + [f.metric for f in self.floors]
        self.listeners = tuple(listeners)
        self.deadline, self.clock = deadline, clock
        self.learning_curves = learning_curves
        self.candidates = candidate_epochs(max_epochs) if by_best_epoch else ()
        self.budget, self.usage_rates = budget, dict(usage_rates or {})
        self.usage = Usage.of([record for lane in lanes for record in lane.store.records()])
        for lane in lanes:
            self._recover(lane)

    def _recover(self, lane: Lane) -> None:
        """Requeue the trials that ran when the last driver ended, or end them if that was decided already."""
        for record in lane.store.records():
            for epoch, entry in record.history.items():
                if all(o.metric in entry.metrics for o in self.objectives):
                    lane.curves.add(record.number, epoch, self.point(entry.metrics))
            if record.state is not State.RUNNING:
                continue
            decision = record.history[record.epochs].decision if record.history else Decision.CONTINUE
            self._judge(lane, record, decision)
            if decision is Decision.CONTINUE:
                lane.waiting.append(record.number)
            else:
                self._end(lane, record.number, decision)

    # -- starting trials -------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        return sum(len(lane.running) for lane in self.lanes.values())

    @property
    def finished(self) -> bool:
        """Return whether no trial runs and none will start any more."""
        return not self.running and not any(
            lane.waiting or self._may_ask(lane) for lane in self.lanes.values()
        )

    def _may_ask(self, lane: Lane) -> bool:
        wanted = lane.asked < lane.target and not lane.exhausted
        return wanted and self.clock() < self.deadline and not self.budget.is_spent(self.usage)

    def next(self, preferred_lane: str = "") -> Assignment | None:
        """Return the next trial to run, or None if there is none at the moment (see `finished`).

        Args:
            preferred_lane: the lane whose trials come first. Otherwise the lanes advance evenly.
        """
        for lane in sorted(self.lanes.values(), key=lambda lane: lane.store.lane != preferred_lane):
            if lane.waiting:
                return self._assign(lane, lane.store.begin_attempt(lane.waiting.pop(0)))
        while True:
            open_lanes = [lane for lane in self.lanes.values() if self._may_ask(lane)]
            if not open_lanes:
                return None
            # the lane with the smallest part of its trials
            lane = min(
                open_lanes, key=lambda lane: (lane.store.lane != preferred_lane, lane.asked / lane.target)
            )
            record = lane.store.ask(lambda number, params, lane=lane: self._begin(lane, number, params))  # type: ignore[misc]
            if record is not None:
                return self._assign(lane, record)
            lane.exhausted = True

    def _assign(self, lane: Lane, record: TrialRecord) -> Assignment:
        number = record.number
        lane.running.add(number)
        for listener in self.listeners:
            listener.started(record)
        planned = lane.planned.get(number)
        return Assignment(
            key=record.key,
            lane=record.lane,
            number=number,
            method=record.method,
            configuration=record.configuration,
            seed=record.seed,
            pretrain_seed=planned.pretrain_seed if planned else lane.pretrain_seed,
            checkpoint=record.last_checkpoint,
            epochs=record.epochs,
            attempt=record.attempt,
            lost_workers=lane.lost_workers.get(number, 0),
            validated=self._validated(lane),
            compared=self._compared(lane),
            deciding=self.deciding,
            kept=self.candidates,
        )

    def _begin(self, lane: Lane, number: int, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of a new trial: configuration, method, seed, and those of a planned trial."""
        if lane.planned:
            item = lane.planned[number]
            return {
                "configuration": dict(item.configuration),
                "method": item.method,
                "seed": item.seed,
                **item.attrs,
            }
        seed = derive_seed(self.seed, lane.store.lane, "trial", number)
        return {"configuration": {**lane.fixed, **params}, "method": lane.method, "seed": seed}

    # -- results of trials -----------------------------------------------------------------------------

    def report(self, key: str, epoch: int, metrics: Mapping[str, float], checkpoint: str) -> Decision:
        """Record an epoch and decide whether the trial continues; if not, it is ended in the storage on return."""
        lane, number = self._find(key)
        record = lane.store.record(number)
        if epoch in record.history:  # trained again after a kill, with the same metrics
            decision = record.history[epoch].decision
        else:
            validated = epoch in self._validated(lane)
            problem = self._problem(epoch, metrics) if validated else ""
            if problem:
                self.failed(key, problem)
                return Decision.DONE
            seconds = metrics.get("seconds", 0.0)
            metrics = {**metrics, **{name: factor * seconds for name, factor in self.usage_rates.items()}}
            decision, place = Decision.CONTINUE, None
            if validated:
                decision, place = self._decide(lane, record, epoch, metrics)
            lane.store.report(number, epoch, metrics, decision, checkpoint, place)
            if validated:
                lane.curves.add(number, epoch, self.point(metrics))
            self._judge(lane, lane.store.record(number), decision)
            self.usage = self.usage.plus(metrics)
            lane.lost_workers.pop(number, None)
            for listener in self.listeners:
                listener.epoch(lane.store.record(number), epoch)
        if decision is not Decision.CONTINUE:
            lane.running.discard(number)
            self._end(lane, number, decision)
        return decision

    def _problem(self, epoch: int, metrics: Mapping[str, float]) -> str:
        for name in self.judged_metrics:
            if name not in metrics:
                return f"the report of epoch {epoch} lacks {name}"
            if not math.isfinite(metrics[name]):
                return f"{name} is {metrics[name]} after epoch {epoch}"
        return ""

    def _decide(
        self, lane: Lane, record: TrialRecord, epoch: int, metrics: Mapping[str, float]
    ) -> tuple[Decision, Place | None]:
        """Return the decision, and the trial's place among those it was compared with, if it was."""
        schedule = self._schedule(lane)
        own = {**lane.curves.curve(record.number), epoch: self.point(metrics)}
        return decide(schedule, epoch, own, lane.curves, self.max_epochs)

    def _schedule(self, lane: Lane) -> Schedule:
        return self.schedule if lane.early_stopping else NoStopping(self.max_epochs)

    def _validated(self, lane: Lane) -> tuple[int, ...]:
        """Return the epochs after which the trials of a lane are validated."""
        if self.learning_curves:
            return tuple(range(1, self.max_epochs + 1))
        compared = compared_epochs(self._schedule(lane), self.max_epochs)
        return tuple(sorted({*compared, *self.candidates}))

    def _compared(self, lane: Lane) -> tuple[int, ...]:
        """Return the epochs at which a trial is measured only as far as it takes to compare it with others."""
        if self.learning_curves:
            return ()
        return tuple(e for e in self._validated(lane) if e not in (self.max_epochs, *self.candidates))

    @property
    def deciding(self) -> tuple[str, ...]:
        """Return the validation metrics that decide, and the clean accuracy, which people look at first."""
        return tuple(dict.fromkeys([*self.judged_metrics, "val/accuracy/clean"]))

    def _judge(self, lane: Lane, record: TrialRecord, decision: Decision) -> None:
        """Judge a trial by its best epoch so far, if that is asked for; a stopped one by where it was stopped."""
        if not self.candidates:
            return
        epoch = 0
        if decision is not Decision.PRUNE:
            epoch = best_epoch(record, self.candidates, self.objectives[0], self.floors, self.reference)
        lane.store.judge(record.number, epoch)

    def point(self, metrics: Mapping[str, float]) -> Point:
        return point_of(self.objectives, metrics)

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return {floor's metric: bound - value}; above 0 violates the floor."""
        return {
            f.metric: f.bound(self.reference.get(f.metric)) - metrics[f.metric]
            for f in self.floors
            if f.metric in metrics
        }

    def _end(self, lane: Lane, number: int, decision: Decision) -> None:
        state = State.PRUNED if decision is Decision.PRUNE else State.COMPLETE
        lane.store.finish(number, state, violations=self.violations(lane.store.record(number).judged))
        self._announce_end(lane, number)

    def failed(self, key: str, reason: str) -> None:
        """End a trial as FAIL with its reason."""
        lane, number = self._find(key)
        lane.running.discard(number)
        lane.store.finish(number, State.FAIL, reason)
        self._announce_end(lane, number)

    def worker_lost(self, key: str, reason: str) -> None:
        """Requeue a trial whose worker was lost, with its number, from its last checkpoint.

        After MAX_LOST_WORKERS without an epoch between them it fails. Lost drivers do not count.
        """
        lane, number = self._find(key)
        lane.lost_workers[number] = lane.lost_workers.get(number, 0) + 1
        if lane.lost_workers[number] >= MAX_LOST_WORKERS:
            self.failed(key, f"{reason} ({MAX_LOST_WORKERS} times)")
            return
        lane.running.discard(number)
        lane.waiting.append(number)

    def reclaim(self) -> None:
        """Requeue the trials that an executor left running when it ended."""
        for lane in self.lanes.values():
            lane.waiting.extend(sorted(lane.running))
            lane.running.clear()

    def _announce_end(self, lane: Lane, number: int) -> None:
        for listener in self.listeners:
            listener.ended(lane.store.record(number))

    def _find(self, key: str) -> tuple[Lane, int]:
        for lane in self.lanes.values():
            for number in lane.running:
                if lane.store.record(number).key == key:
                    return lane, number
        raise KeyError(key)
