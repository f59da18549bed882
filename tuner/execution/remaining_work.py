"""What a run has still to train or to measure, read from its stores alone."""

from collections.abc import Sequence

from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.base.records import State, TrialRecord
from tuner.execution import confirmation
from tuner.execution.run_stores import RunStores
from tuner.planning.plan import Plan
from tuner.store.evaluation_store import EvaluationStore, protocol_id


def unmeasured(
    plan: Plan, records: Sequence[TrialRecord], evaluations: EvaluationStore
) -> list[tuple[TrialRecord, str, EvaluationProtocol]]:
    """Return the checkpoints of complete trials that are still to be measured, and by which protocol.

    Of a confirm trial that is judged by an earlier epoch than its last, the last is measured too.
    """
    judged, last = evaluations.protocols(), evaluations.last_epoch_protocols()
    todo = []
    for r in records:
        if r.state is not State.COMPLETE:
            continue
        protocol = plan.test_protocol(r.lane, r.arm)
        if judged.get(r.key) != protocol_id(protocol):
            todo.append((r, r.checkpoint, protocol))
        has_other = r.lane == "confirm" and r.last_checkpoint != r.checkpoint
        if has_other and last.get(r.key) != protocol_id(protocol):
            todo.append((r, r.last_checkpoint, protocol))
    return todo


def nothing_is_left(plan: Plan, stores: RunStores) -> bool:
    """Return whether the plan's stages have neither a trial to train nor a checkpoint to measure.

    False for a run without a winner: whether it goes on is for its stages to say.
    """
    winner = stores.best()
    if winner is None:
        return False
    searches = [record for store in stores.lanes.values() for record in store.records()]
    if "search" in plan.stages:
        if any(stores.lanes[lane.name].count < lane.trials for lane in plan.lanes):
            return False
        if any(record.state is State.RUNNING for record in searches):
            return False
    if "evaluate" in plan.stages and unmeasured(plan, searches, stores.evaluations):
        return False
    return "confirm" not in plan.stages or _all_confirmed(plan, stores, winner)


def _all_confirmed(plan: Plan, stores: RunStores, winner: TrialRecord) -> bool:
    arms = confirmation.arms_of(plan, winner, stores.tuned())
    records = stores.confirm.records()
    planned, _ = confirmation.plan_trials(plan, stores.confirm, arms)
    if any(n >= len(records) or records[n].state is State.RUNNING for n in planned):
        return False
    return not unmeasured(plan, confirmation.records_of_arms(records, arms), stores.evaluations)
