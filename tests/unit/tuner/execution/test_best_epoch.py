"""Trials that are judged by their best epoch: the choice, its files, and what a kill or a stop in between leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.study import Floor, Objective
from tests.unit.runs import CLEAN, METRIC, StoredRun
from tests.unit.study_results import CLAIM, plan, result
from tuner.analysis.selection import best_epoch
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole
from tuner.execution.confirmation import arm_results
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.report.best_epoch import best_and_last_epoch
from tuner.report.blocks import Table
from tuner.search.schedulers import candidate_epochs, schedule
from tuner.store.retention import Retention
from tuner.store.trial_reader import read_trials

CURVE = [
    0.1,
    0.2,
    0.3,
    0.9,
    0.5,
    0.6,
    0.8,
    0.7,
    0.4,
]  # the best of the second half is epoch 7, of all epoch 4


def record(values: Sequence[float | None], clean: Sequence[float] = ()) -> TrialRecord:
    history = {
        epoch: Epoch(
            {} if value is None else {METRIC: value, CLEAN: clean[epoch - 1] if clean else 1.0},
            Decision.CONTINUE,
            f"e{epoch}",
        )
        for epoch, value in enumerate(values, start=1)
    }
    return TrialRecord("search", 0, TrialRole.SEARCH, State.RUNNING, {}, {}, 0, history)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, (1,)),
        (2, (2,)),
        (3, (2, 3)),
        (9, (5, 6, 7, 8, 9)),
        (200, (101, 112, 123, 134, 145, 156, 167, 178, 189, 200)),
    ],
)
def test_candidates_are_spread_over_the_second_half(epochs: int, expected: tuple[int, ...]) -> None:
    assert candidate_epochs(epochs) == expected


@pytest.mark.parametrize(
    ("values", "clean", "direction", "expected"),
    [
        (CURVE, (), "maximize", 7),
        (CURVE, (), "minimize", 9),
        ([0.5] * 9, (), "maximize", 9),  # a tie: the one that was trained for longer
        (CURVE, [1.0] * 6 + [0.2] * 2 + [1.0], "maximize", 6),  # 7 and 8 are below the floor
        (CURVE, [0.2] * 9, "maximize", 7),  # none meets it
        ([0.1, 0.2, 0.3, 0.9], (), "maximize", 0),  # no candidate yet
        ([*CURVE[:6], None, None, 0.4], (), "maximize", 6),  # not validated
    ],
)
def test_the_best_epoch(
    values: Sequence[float | None], clean: Sequence[float], direction: str, expected: int
) -> None:
    objective, floors = Objective(METRIC, direction), (Floor(CLEAN, at_least=0.9),)
    assert best_epoch(record(values, clean), candidate_epochs(9), objective, floors, {}) == expected


class Run(StoredRun):
    """A stored run whose trials are judged by their best epoch and never stopped."""

    def __init__(self, root: Path, **changes: Any) -> None:
        super().__init__(root)
        self.plan = replace(self.plan, epoch="best", lanes=self.plan.lanes[:1])
        self.changes = changes

    def queue(self, lane: str = "search") -> TrialQueue:
        (planned,) = self.plan.lanes
        given: dict[str, Any] = {"schedule": schedule("none", 1, 3, 9)} | self.changes
        return TrialQueue(
            [Lane(self.lanes[lane], planned.method, planned.fixed, planned.trials, self.plan.seed)],
            self.plan.objectives,
            seed=self.plan.seed,
            max_epochs=9,
            floors=self.plan.floors,
            reference={CLEAN: 0.95},
            learning_curves=False,
            by_best_epoch=True,
            listeners=(Retention(self.folder.files),),
            **given,
        )

    def kept(self) -> list[int]:
        return [int(name[-7:-3]) for name in self.folder.files.names("checkpoints/0000")]

    def stored(self) -> TrialRecord:
        """Return the trial as another process reads it."""
        records, _ = read_trials(self.folder.storage_url(None), self.plan)
        return next(r for r in records if r.key == "0000")


def test_a_complete_trial_is_judged_by_its_best_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.trial(run.queue(), CURVE)
    own, stored = run.lanes["search"].record(0), run.stored()
    assert own == stored
    assert (stored.state, stored.judged_epoch, stored.epochs) == (State.COMPLETE, 7, 9)
    assert stored.judged[METRIC] == 0.8
    assert stored.checkpoint == "checkpoints/0000/epoch-0007.pt"
    storage = run.lanes["search"]._storage
    (trial,) = storage.get_all_trials(run.lanes["search"]._study_id)
    assert trial.values == [0.8]  # what the sampler learns from
    assert run.kept() == [7]


def test_it_is_validated_at_the_candidates_and_beaten_epochs_are_deleted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    queue = run.queue()
    assignment = queue.next()
    assert assignment is not None
    assert assignment.validated == assignment.kept == (5, 6, 7, 8, 9)
    kept = {}
    for epoch, value in enumerate(CURVE, start=1):
        name = f"checkpoints/0000/epoch-{epoch:04d}.pt"
        run.folder.files.write(name, b"weights")
        metrics = {METRIC: value, CLEAN: 0.95} if epoch in assignment.validated else {}
        queue.report("0000", epoch, {**metrics, "seconds": 1.0}, name)
        kept[epoch] = run.kept()
    assert kept[6] == [5, 6]
    assert kept[8] == [7, 8]
    assert kept[9] == [7]


def test_after_a_kill_the_choice_is_that_of_all_epochs(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first = run.queue()
    assignment = first.next()
    assert assignment is not None
    for epoch, value in enumerate(CURVE[:8], start=1):
        first.report("0000", epoch, {METRIC: value, CLEAN: 0.95, "seconds": 1.0}, f"e{epoch}")
    again = Run.__new__(Run)
    again.__dict__.update(run.__dict__)
    second = again.queue()  # a new queue over the same store
    assignment = second.next()
    assert assignment is not None
    assert (assignment.epochs, assignment.checkpoint) == (
        8,
        "e8",
    )  # it goes on from its last, not from its best
    second.report("0000", 9, {METRIC: 0.4, CLEAN: 0.95, "seconds": 1.0}, "e9")
    assert run.stored().judged_epoch == 7


def test_a_stopped_trial_is_judged_by_where_it_was_stopped(tmp_path: Path) -> None:
    """Rungs at 2 and 6 of 9: the second trial is stopped at 6, though it was better at 5."""
    run = Run(tmp_path, schedule=schedule("asha", 2, 3, 9))
    queue = run.queue()
    run.trial(queue, [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9])
    run.trial(queue, [0.5, 0.6, 0.5, 0.5, 0.8, 0.4, 0.5, 0.5, 0.5])
    stopped = run.lanes["search"].record(1)
    assert (stopped.state, stopped.epochs, stopped.judged_epoch) == (State.PRUNED, 6, 0)
    assert stopped.judged[METRIC] == 0.4


def confirm(key: int, arm: str, judged: int) -> TrialRecord:
    history = {e: Epoch({}, Decision.CONTINUE, f"e{e}") for e in range(1, 10)}
    known = TrialRecord("confirm", key, TrialRole.CONFIRM, State.COMPLETE, {}, {}, key, history)
    return replace(known, arm=arm, seed_index=key % 2, judged_epoch=judged)


def test_the_report_shows_the_last_epoch_beside_the_best() -> None:
    """Winner .8, .9 at its best epochs 7 and 9, .7 and .9 after the last: .05 ± 12.706 * .05 = 5 ± 63.5 points."""
    study = replace(plan(), epoch="best")
    records = [confirm(0, "best", 7), confirm(1, "best", 9)]
    tests: Mapping[str, Mapping[str, float]] = {"confirm-0000": {CLAIM: 0.8}, "confirm-0001": {CLAIM: 0.9}}
    arms = arm_results(study, records, tests, {"confirm-0000": {CLAIM: 0.7}})
    assert (arms[0].epochs, arms[0].values[CLAIM], arms[0].after_last[CLAIM]) == (
        (7, 9),
        [0.8, 0.9],
        [0.7, 0.9],
    )
    table, _ = best_and_last_epoch(result(plan=study, arms=arms))
    assert isinstance(table, Table)
    assert list(table.rows[0]) == [
        "winner",
        "7, 9",
        "85.0 (21.5–100.0) %",
        "80.0 (0.0–100.0) %",
        "+5.0 ± 63.5 points",
    ]
    assert best_and_last_epoch(result(arms=arm_results(plan(), records, tests))) == []
