"""The results of a launch: gathered, written as a report, sent to MLflow with the winner's model, and printed."""

import itertools
import math
from dataclasses import asdict, replace

from tuner.analysis.ranking import ranking
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import trials_to_add
from tuner.base.errors import StudyFailed
from tuner.base.records import State
from tuner.commands.mlflow_pages import show_answer, show_arms
from tuner.commands.session import Session
from tuner.commands.winner_model import export_command, register_winner
from tuner.execution.controller import Controller
from tuner.planning import cost_history
from tuner.planning.command_line import resume_command
from tuner.report.build import write_report
from tuner.search.budget import Usage
from tuner.store.plan_file import data_notes
from tuner.tracking.mlflow_uris import ui_address, ui_command, ui_links
from tuner.tracking.run_names import judged_name

COMPARED = 5  # runs behind the printed comparison link


def publish(session: Session, controller: Controller, failure: str) -> int:
    """Publish the results of the stages that have run and return the exit status, 1 if trials had problems.

    Args:
        failure: why the study has failed, "" if it has not; then the report is written whatever the plan says.

    Raises:
        StudyFailed: of `failure`, once everything is published.
        Interrupted: before the answer is printed; a resume makes up for it.
    """
    session.timings |= controller.timings
    session.retention.sweep(
        controller.stores.records(), controller.stores.superseded(), controller.stores.evaluations.metrics()
    )
    result = study_result(session, controller)
    session.folder.write_json(cost_history.FILE, cost_history.to_json(session.plan, result.records))
    if "report" in session.plan.stages or failure:
        session.stage("report")
        result = _report(session, controller, result)
    if not session.tracker.flush(0):
        session.retention.samples(controller.stores.records())
    session.signals.check()  # so late only the report is left to a resume
    _print(session, controller, result, failure)
    if failure:
        raise StudyFailed(failure, what_helps(session, result))
    if controller.problems:
        session.failure = controller.problems[0]
        return 1
    running = any(record.state is State.RUNNING for record in controller.stores.records())
    finished = "report" in session.plan.stages and not running
    session.folder.update(finished=finished, links=dict(result.links))
    return 0


def _print(session: Session, controller: Controller, result: StudyResult, failure: str) -> None:
    problems = (
        controller.problems,
        controller.remarks,
        result.test_data,
        session.retention.problems,
    )
    for problem in itertools.chain(*problems):
        session.console.note(problem)
    session.console.answer(result, session.folder.local, failure)


def what_helps(session: Session, result: StudyResult) -> str:
    """Return how a study without a winner may come to one."""
    plan = session.plan
    if plan.trains_one:
        return "what may help: a new run with other values (--set) or more epochs (--max-epochs)"
    more = trials_to_add(plan, result.lane("search"))
    command = resume_command(plan.study, plan.run_name, session.options, more)
    if more is None:
        return f"continue with: {command}"
    others = "a new run with other values (--set) or more epochs (--max-epochs)"
    return f"what may help: {others}, or more trials: {command}"


def study_result(session: Session, controller: Controller) -> StudyResult:
    """Return everything that is known of the study as one value."""
    stores = controller.stores
    best = stores.best()
    records = stores.records()
    stored = session.folder.entries()
    arms = controller.arm_results()
    return StudyResult(
        plan=session.plan,
        records=records,
        tests=stores.evaluations.metrics(),
        remarks=stores.evaluations.remarks(),
        best=best,
        feasible=frozenset(r.key for r in records if stores.feasible(r)),
        pareto=stores.pareto(),
        reference=stores.reference,
        arms=arms,
        scores=stores.evaluations.scores(best.key) if best else {},
        importances=stores.importances(),
        timings={k: v for k, v in session.timings.items() if k != "concurrency"},  # seconds alone
        environment=session.facts,
        links=_links(session, controller, bool(arms)),
        ui_command=ui_command(session.uri),
        problems=(
            *controller.problems,
            *filter(None, [stores.evaluations.unreadable(best.key) if best else ""]),
        ),
        test_data=tuple(dict.fromkeys([*session.plan.notes, *data_notes(stored)])),
        classes=stored.get("classes", ()),
    )


def _links(session: Session, controller: Controller, arms: bool) -> dict[str, str]:
    """Return {name: URL} into the MLflow UI, see `ui_links`.

    Args:
        arms: whether there are any to show.
    """
    tracker = session.tracker
    if arms:
        show_arms(session)
    session.send_to_mlflow()
    experiment, parent = tracker.experiment_id(), tracker.parent_id()
    if experiment is None or parent is None:
        return {}
    ranked = sorted(
        (r for r in controller.stores.search.records() if r.history and r.state is not State.FAIL),
        key=lambda r: (r.state is State.COMPLETE, controller.stores.point(r.judged)),
        reverse=True,
    )
    ids = [tracker.child_id(r.key) for r in ranked[:COMPARED]]
    objective = session.plan.objectives[0]
    return ui_links(
        ui_address(session.uri),
        experiment,
        parent,
        views=tracker.views,
        best=[i for i in ids if i],
        objective=judged_name(session.plan, objective.metric),
        largest_first=objective.direction == "maximize",
    )


def _report(session: Session, controller: Controller, result: StudyResult) -> StudyResult:
    """Write the report, send its files and the study's metrics to MLflow; return the result as it was reported."""
    if result.best is not None:
        result = register_winner(session, controller, result)
        result = replace(result, export_command=export_command(session))
        session.signals.check()
    with session.timed("report"):
        if result.best is not None:
            result = replace(result, attack_examples=controller.attack_examples(result.best))
        session.signals.check()
        paths = write_report(result, session.folder.local)
    session.signals.check()
    for path in paths:
        session.tracker.artifact("", path)
        if session.folder.remote:
            session.folder.files.write(path.name, path.read_bytes())
    _log_metrics(session, result)
    show_answer(session, result)
    return result


def _log_metrics(session: Session, result: StudyResult) -> None:
    """Send what the study used, what its winner was chosen by and its arms' headline metrics to MLflow."""
    metrics = {f"used/{name}": float(value) for name, value in asdict(Usage.of(result.records)).items()}
    if result.best is not None:
        metrics |= {f"best/{m}": v for m, v in result.best.judged.items() if m in session.plan.judged_metrics}
        ranked = ranking(result)
        found = {"rank_correlation": ranked.correlation, "regret": ranked.regret}
        metrics |= {f"selection/{name}": value for name, value in found.items() if math.isfinite(value)}
        for metric in session.plan.headline:
            for arm in result.arms:
                interval = arm.seed_interval(metric)
                if interval.n:
                    metrics[f"{arm.name}/{metric}"] = interval.mean
    # the step: a run that is extended has more trials, and its new values count
    session.tracker.metrics("", len(result.records), metrics)
