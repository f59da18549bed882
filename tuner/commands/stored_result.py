"""The results of a run as far as they are stored, for programs that read it: while it runs, after a kill, or done."""

from dataclasses import replace

from tuner.analysis.results import StudyResult
from tuner.analysis.selection import best_feasible, is_feasible
from tuner.commands.run_state import RunSnapshot
from tuner.execution import confirmation
from tuner.store.plan_file import data_notes


def result_of(run: RunSnapshot) -> StudyResult:
    """Return a run's trials, winner, test metrics and arms; what only its driver has (scores, timings) is left out."""
    floors, reference = run.judged_floors, run.notes.get("reference", {})
    result = StudyResult(
        plan=run.plan,
        records=run.records,
        tests=run.tests,
        best=run.best,
        feasible=frozenset(r.key for r in run.records if is_feasible(r, floors, reference)),
        pareto=(),
        reference=reference,
        environment=dict(run.facts.get("versions", {})),
        data_version=str(run.facts.get("data_version", "")),
        underway=not run.facts.get("finished"),
        test_data=data_notes(run.facts),
    )
    return result if run.best is None else _with_arms(result, run)


def _with_arms(result: StudyResult, run: RunSnapshot) -> StudyResult:
    assert run.best is not None
    tuned = {
        lane.name: best_feasible(
            run.lane(lane.name), run.plan.objectives, run.judged_floors, result.reference
        )
        for lane in run.plan.lanes[1:]
    }
    arms = confirmation.arms_of(run.plan, run.best, tuned)
    records = confirmation.records_of_arms(run.lane("confirm"), arms)
    return replace(result, arms=confirmation.arm_results(run.plan, records, result.tests, run.last_epochs))
