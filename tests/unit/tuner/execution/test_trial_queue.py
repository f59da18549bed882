"""The trial queue over a real database: states, decisions, and a kill at every event."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Floor, Objective
from tuner.analysis.selection import best_feasible
from tuner.base.records import Decision, State, TrialRole
from tuner.execution.trial_queue import MAX_LOST_WORKERS, Assignment, Lane, PlannedTrial, TrialQueue
from tuner.search.schedulers import compared_epochs, schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

OBJECTIVE = Objective("val/score")
FLOOR = Floor("val/accuracy/clean", below_reference=0.1)
SPACE = {"lr": Float(1e-4, 1e-1, log=True), "steps": Int(1, 5), "attack": Choice(("a", "b"))}


class Killed(BaseException):
    """The process ends here: nothing after this point runs."""


class Storage:
    """Stores over one database file, opened anew like a new process would; `writes` counts down to a kill."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path / 'study.db'}"
        self.writes = math.inf

    def lanes(self, trials: int = 12, space: Mapping[str, Any] = SPACE, two: bool = True) -> list[Lane]:
        storage = open_storage(self.url)
        names = (
            [("search", TrialRole.SEARCH), ("oe", TrialRole.BASELINE)]
            if two
            else [("search", TrialRole.SEARCH)]
        )
        found = []
        for name, role in names:
            store = TrialStore(storage, name, name, role, space, [OBJECTIVE], 3)
            self._arm(store)
            found.append(Lane(store, "aoe", {"fixed": 1}, trials, 3))
        return found

    def _arm(self, store: TrialStore) -> None:
        """Put a kill before every write that the store can make."""
        writes = [name for name in dir(store._storage) if name.startswith(("set_trial_", "create_new_trial"))]
        assert len(writes) >= 5
        for name in writes:
            self._wrap(store._storage, name)

    def _wrap(self, inner: Any, name: str) -> None:
        if hasattr(getattr(inner, name), "counted"):
            return
        original = getattr(inner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.writes -= 1
            if self.writes < 0:
                raise Killed
            return original(*args, **kwargs)

        counted.counted = True  # type: ignore[attr-defined]
        setattr(inner, name, counted)


def queue_of(lanes: list[Lane], **changes: Any) -> TrialQueue:
    given: dict[str, Any] = {
        "seed": 3,
        "max_epochs": 4,
        "schedule": schedule("asha", 1, 2, 4),
        "floors": (FLOOR,),
        "reference": {"val/accuracy/clean": 0.9},
    }
    return TrialQueue(lanes, [OBJECTIVE], **given | changes)


def metrics_of(assignment: Assignment, epoch: int) -> dict[str, float]:
    """A deterministic trainable: depends on the configuration, the trial's seed and the epoch only."""
    lr = assignment.configuration["lr"]
    noise = (assignment.seed * 7919 + epoch * 104729) % 1000 / 10_000
    score = 1 - abs(math.log10(lr) + 2.5) / 3 + 0.05 * epoch + noise
    return {
        "val/score": score,
        "val/accuracy/clean": 0.95 - 0.05 * (assignment.configuration["steps"] == 5),
        "seconds": 1.0,
    }


def drive(queue: TrialQueue) -> Iterator[None]:
    """Run the queue with one worker; yields before every event."""
    while not queue.finished:
        yield
        assignment = queue.next()
        if assignment is None:  # the space turned out to be exhausted
            assert queue.finished
            return
        epoch = assignment.epochs
        while True:
            epoch += 1
            yield
            decision = queue.report(
                assignment.key, epoch, metrics_of(assignment, epoch), f"{assignment.key}/{epoch}"
            )
            if decision is not Decision.CONTINUE:
                break


def truth(lanes: list[Lane]) -> list[tuple[Any, ...]]:
    """What must be equal between an uninterrupted and an interrupted run: all but the count of attempts."""
    return [
        (
            r.key,
            r.state,
            r.params,
            r.configuration,
            r.seed,
            r.history,
            r.reason,
            r.role,
        )
        for lane in lanes
        for r in lane.store.records()
    ]


def finished_truth(storage: Storage) -> list[tuple[Any, ...]]:
    lanes = storage.lanes()
    queue = queue_of(lanes)
    for _ in drive(queue):
        pass
    return truth(storage.lanes())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    return finished_truth(Storage(tmp_path_factory.mktemp("truth")))


def test_every_ending_is_there(uninterrupted: list[tuple[Any, ...]]) -> None:
    states = [row[1] for row in uninterrupted]
    assert len(uninterrupted) == 24
    assert {State.COMPLETE, State.PRUNED} <= set(states)
    assert [row[0] for row in uninterrupted[:12]] == [f"{n:04d}" for n in range(12)]
    assert uninterrupted[12][0] == "oe-0000"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_at_every_write_ends_the_same(tmp_path: Path, uninterrupted: list[tuple[Any, ...]]) -> None:
    """Kill every few writes, again and again, until the study is through.

    Twelve trials a lane: the last ones are suggested by the model, no longer at random.
    """
    for stride in (3, 17):
        folder = tmp_path / str(stride)
        folder.mkdir()
        storage = Storage(folder)
        lives = killed_until_through(storage, stride, 2000)
        assert truth(storage.lanes()) == uninterrupted, f"stride {stride}, {lives} lives"


def killed_until_through(storage: Storage, stride: int, most: int, **changes: Any) -> int:
    """Drive a study, killed every few writes and resumed, to its end; return how many lives it took."""
    lives = 0
    while True:
        lives += 1
        storage.writes = math.inf
        try:
            lanes = storage.lanes()
            storage.writes = stride + lives % 5
            for _ in drive(queue_of(lanes, **changes)):
                pass
            break
        except Killed:
            assert lives < most
    storage.writes = math.inf
    return lives


def one_lane(tmp_path: Path, **changes: Any) -> tuple[TrialQueue, TrialStore]:
    lanes = Storage(tmp_path).lanes(two=False)
    return queue_of(lanes, **changes), lanes[0].store


def test_nan_missing_and_infinite_metrics_fail_the_trial(tmp_path: Path) -> None:
    queue, store = one_lane(tmp_path)
    for values, reason in (
        ({"val/score": math.nan, "val/accuracy/clean": 0.9}, "val/score is nan after epoch 1"),
        ({"val/score": math.inf, "val/accuracy/clean": 0.9}, "val/score is inf after epoch 1"),
        ({"val/accuracy/clean": 0.9}, "the report of epoch 1 lacks val/score"),
        ({"val/score": 0.5}, "the report of epoch 1 lacks val/accuracy/clean"),
    ):
        assignment = queue.next()
        assert assignment is not None
        assert queue.report(assignment.key, 1, values, "c") is Decision.DONE
        record = store.record(assignment.number)
        assert record.state is State.FAIL
        assert record.reason == reason
        assert record.history == {}


def test_a_dead_worker_gives_the_trial_back_and_too_many_fail_it(tmp_path: Path) -> None:
    queue, store = one_lane(tmp_path)
    first = queue.next()
    assert first is not None
    queue.report(first.key, 1, metrics_of(first, 1), "0000/1")
    for attempt in range(2, MAX_LOST_WORKERS + 1):
        queue.worker_lost(first.key, "worker lost")
        again = queue.next()
        assert again is not None
        assert (again.key, again.number, again.attempt) == (first.key, 0, attempt)
        assert (again.configuration, again.seed) == (first.configuration, first.seed)
        assert (again.checkpoint, again.epochs) == ("0000/1", 1)
    queue.worker_lost(first.key, "worker lost")
    assert store.record(0).state is State.FAIL
    assert store.record(0).reason == f"worker lost ({MAX_LOST_WORKERS} times)"
    assert queue.next().number == 1  # type: ignore[union-attr]


def test_failed_trials_are_not_tried_again(tmp_path: Path) -> None:
    queue, store = one_lane(tmp_path)
    assignment = queue.next()
    assert assignment is not None
    queue.failed(assignment.key, "ValueError: no")
    assert store.record(0).state is State.FAIL
    assert store.record(0).reason == "ValueError: no"
    assert not queue.running


def test_a_floor_makes_a_trial_infeasible_and_the_winner_feasible(tmp_path: Path) -> None:
    """reference .9 - .1 = .8: accuracy .79 is 1 point below, however good its score."""
    queue, store = one_lane(tmp_path, schedule=schedule("none", 1, 2, 4))
    for score, accuracy in ((0.99, 0.79), (0.5, 0.8)):
        assignment = queue.next()
        assert assignment is not None
        for epoch in range(1, 5):
            queue.report(assignment.key, epoch, {"val/score": score, "val/accuracy/clean": accuracy}, "c")
    bad, good = store.record(0), store.record(1)
    assert queue.violations(bad.judged)["val/accuracy/clean"] == pytest.approx(0.01)
    assert queue.violations(good.judged)["val/accuracy/clean"] == pytest.approx(0.0)

    assert best_feasible(store.records(), queue.objectives, queue.floors, queue.reference) == good


def test_a_finite_space_is_never_repeated_and_then_exhausted(tmp_path: Path) -> None:
    lanes = Storage(tmp_path).lanes(
        trials=50, space={"lr": Choice((1e-3, 1e-2)), "steps": Int(1, 3)}, two=False
    )
    queue = queue_of(lanes)
    for _ in drive(queue):
        pass
    seen = [tuple(sorted(r.params.items())) for r in lanes[0].store.records()]
    assert len(seen) == len(set(seen)) == 6


def test_no_trial_starts_after_the_deadline(tmp_path: Path) -> None:
    now = [0.0]
    lanes = Storage(tmp_path).lanes(two=False)
    queue = queue_of(lanes, deadline=10.0, clock=lambda: now[0])
    assert queue.next() is not None
    now[0] = 10.0
    assert queue.next() is None
    assert not queue.finished  # one still runs


def test_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for trials, expected in ((2, 2), (2, 2), (5, 5)):
        lanes = storage.lanes(trials=trials, two=False)
        for _ in drive(queue_of(lanes)):
            pass
        assert len(lanes[0].store.records()) == expected


def test_several_objectives_store_pruned_trials_as_infeasible(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 's.db'}")
    objectives = [OBJECTIVE, Objective("val/cost", "minimize")]
    store = TrialStore(storage, "m", "search", TrialRole.SEARCH, SPACE, objectives, 0)
    store.ask(lambda number, params: {"configuration": {"a": 1}, "seed": 5})
    store.report(0, 1, {"val/score": 0.5, "val/cost": 2.0}, Decision.PRUNE, "c")
    store.finish(0, State.PRUNED, "stopped at epoch 1")
    again = TrialStore(storage, "m", "search", TrialRole.SEARCH, SPACE, objectives, 0)
    assert again.record(0).reason == "stopped at epoch 1"
    assert again.record(0).state is State.PRUNED
    assert again.ask(lambda number, params: {"configuration": {}, "seed": 6}) is not None


def test_what_is_measured_where_trials_are_compared(tmp_path: Path) -> None:
    """Rungs at 1 and 2 of 4 epochs: there what decides, after the last epoch everything; with curves always all."""
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")

    def first_trial(name: str, **options: bool) -> Assignment:
        store = TrialStore(storage, name, "search", TrialRole.SEARCH, SPACE, [OBJECTIVE], 3)
        trial = queue_of([Lane(store, "aoe", {}, 1, 0)], **options).next()
        assert trial is not None
        assert trial.deciding == (OBJECTIVE.metric, "val/accuracy/clean")
        return trial

    plain = first_trial("plain", learning_curves=False)
    assert (plain.validated, plain.compared) == ((1, 2, 4), (1, 2))
    curves = first_trial("curves", learning_curves=True)
    assert (curves.validated, curves.compared) == ((1, 2, 3, 4), ())
    best = first_trial("best", learning_curves=False, by_best_epoch=True)
    assert (best.validated, best.compared) == ((1, 2, 3, 4), (1, 2)), "the candidates are 3 and 4"


def test_planned_trials_are_validated_after_their_last_epoch(tmp_path: Path) -> None:
    """Nothing stops or ranks them before; what they report in between holds no objective, and a kill loses nothing."""

    def queue() -> TrialQueue:
        store = TrialStore(
            open_storage(f"sqlite:///{tmp_path / 'study.db'}"),
            "run",
            "confirm",
            TrialRole.CONFIRM,
            {},
            [OBJECTIVE],
            3,
        )
        planned = {
            0: PlannedTrial({"lr": 0.1}, "aoe", 7, 7, {"arm": "best", "seed_index": 0, "role": "confirm"})
        }
        lane = Lane(store, "", {}, 1, 0, early_stopping=False, planned=planned)
        return queue_of([lane], learning_curves=False)

    first = queue()
    trial = first.next()
    assert trial is not None
    assert (trial.validated, trial.compared) == ((4,), ())
    for epoch in (1, 2):
        assert first.report(trial.key, epoch, {"train/loss": 1.0}, f"e{epoch}") is Decision.CONTINUE
    second = queue()  # after a kill
    trial = second.next()
    assert trial is not None
    assert (trial.epochs, trial.checkpoint) == (2, "e2")
    assert second.report(trial.key, 3, {"train/loss": 1.0}, "e3") is Decision.CONTINUE
    last = {"train/loss": 0.5, OBJECTIVE.metric: 0.8, FLOOR.metric: 0.9}
    assert second.report(trial.key, 4, last, "e4") is Decision.DONE
    record = queue().lanes["confirm"].store.record(0)
    assert record.state is State.COMPLETE
    assert record.judged == last
    assert record.history[2].metrics == {"train/loss": 1.0}


@pytest.mark.parametrize("name", ["asha", "median", "none"])
def test_a_search_decides_the_same_if_validated_only_where_it_looks(name: str, tmp_path: Path) -> None:
    """Its trials end the same, with the same observations for the sampler; epochs in between hold no validation."""
    ends = []
    for curves in (True, False):
        folder = tmp_path / f"{curves}"
        folder.mkdir()
        rule = schedule(name, 1, 2, 4)
        queue = queue_of(Storage(folder).lanes(), schedule=rule, learning_curves=curves)
        while (trial := queue.next()) is not None:
            epoch, decision = 0, Decision.CONTINUE
            while decision is Decision.CONTINUE:
                epoch += 1
                metrics = metrics_of(trial, epoch)
                if epoch not in trial.validated:
                    metrics = {"seconds": metrics["seconds"]}
                decision = queue.report(trial.key, epoch, metrics, "")
        ends.append(
            [
                (r.key, r.state, r.params, r.judged, r.epochs, list(r.history.values())[-1].place)
                for lane in queue.lanes.values()
                for r in lane.store.records()
            ]
        )
    assert ends[0] == ends[1]
    assert trial is None
    assert (
        compared_epochs(schedule(name, 1, 2, 4), 4)
        == {"asha": (1, 2, 4), "median": (1, 2, 3, 4), "none": (4,)}[name]
    )


def test_a_planned_trial_without_a_validation_after_its_last_epoch_fails(tmp_path: Path) -> None:
    (lane,) = Storage(tmp_path).lanes(two=False, trials=1)
    lane = replace(lane, early_stopping=False, planned={0: PlannedTrial({}, "aoe", 7, 7, {})})
    queue = queue_of([lane], learning_curves=False)
    trial = queue.next()
    assert trial is not None
    for epoch in (1, 2, 3):
        queue.report(trial.key, epoch, {"train/loss": 1.0}, "")
    assert queue.report(trial.key, 4, {"train/loss": 1.0}, "") is Decision.DONE
    assert lane.store.record(0).reason == "the report of epoch 4 lacks val/score"
