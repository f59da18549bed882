"""What a run has still to do, through every part of a study: searches, evaluations, the confirm stage."""

from dataclasses import replace
from pathlib import Path

from tests.unit.runs import CLEAN, METRIC, StoredRun
from tuner.base.records import TrialRecord
from tuner.execution.confirmation import arms_of, plan_trials
from tuner.execution.remaining_work import nothing_is_left, unmeasured
from tuner.execution.run_stores import RunStores
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.planning.plan import Plan


def confirmed(run: StoredRun, stores: RunStores, trials: int) -> None:
    """Train so many trials of the confirm stage to their end."""
    winner = stores.best()
    assert winner is not None
    planned, _ = plan_trials(run.plan, stores.confirm, arms_of(run.plan, winner, stores.tuned()))
    lane = Lane(stores.confirm, "", {}, len(planned), 0, early_stopping=False, planned=planned)
    queue = TrialQueue([lane], run.plan.objectives, seed=0, max_epochs=1, schedule=run.plan.schedule)
    for _ in range(trials):
        assignment = queue.next()
        assert assignment is not None
        queue.report(
            assignment.key, 1, {METRIC: 0.5, CLEAN: 0.96}, f"checkpoints/{assignment.key}/epoch-0001.pt"
        )


def measured(run: StoredRun, stores: RunStores, records: list[TrialRecord]) -> None:
    for record, _, protocol in unmeasured(run.plan, records, stores.evaluations):
        stores.evaluations.add(record.key, protocol, {"test/accuracy/clean": 0.9}, [], {})


def test_a_run_has_work_until_its_last_checkpoint_is_measured(tmp_path: Path) -> None:
    run = StoredRun(tmp_path, trials=2)
    whole, search = run.plan, replace(run.plan, stages=("search", "report"))

    def left(plan: Plan = whole) -> bool:
        return not nothing_is_left(plan, RunStores(plan, run.folder, run.folder.storage_url(None)))

    assert left(search), "no trial yet"
    for lane in run.lanes:
        queue = run.queue(lane)
        for values in ([0.5] * 9, [0.9] * 9):
            assert left(search)
            run.trial(queue, values)
    assert not left(search)
    assert not left(replace(whole, stages=("report",)))
    assert left(replace(whole, stages=("search", "evaluate", "report"))), "nothing is measured"
    stores = RunStores(whole, run.folder, run.folder.storage_url(None))
    measured(run, stores, [record for store in stores.lanes.values() for record in store.records()])
    assert not left(replace(whole, stages=("search", "evaluate", "report")))
    assert left(), "nothing is confirmed"
    total = whole.confirm_seeds * (1 + len(whole.arms))
    confirmed(run, stores, total - 1)
    measured(run, stores, stores.confirm.records())
    assert left(), "one confirm trial is missing"
    confirmed(run, stores, 1)
    assert left(), "its checkpoint is not measured"
    measured(run, stores, stores.confirm.records())
    assert not left()
    assert left(replace(whole, confirm_seeds=3)), "the resume asks for another seed"
    more = tuple(replace(lane, trials=3) for lane in whole.lanes)
    assert left(replace(whole, lanes=more)), "the resume asks for another trial"


def test_without_a_winner_the_stages_decide(tmp_path: Path) -> None:
    run = StoredRun(tmp_path, trials=1)
    run.trial(run.queue(), [0.5] * 9, clean=0.2)
    stores = RunStores(run.plan, run.folder, run.folder.storage_url(None))
    assert stores.best() is None
    assert not nothing_is_left(replace(run.plan, stages=("search", "report")), stores)
