"""The winner as a model: registered at the end of a launch, with the lines that load it."""

import contextlib
import io
from dataclasses import replace

from ray.exceptions import RayError

from trainables.base.errors import InputError
from trainables.data.types.datasets import DATASETS
from tuner.analysis.results import StudyResult, interval
from tuner.analysis.verdict import claim_metric
from tuner.base.text import one_line
from tuner.commands.export import source_of
from tuner.commands.mlflow_pages import note_on_model
from tuner.commands.session import Session
from tuner.execution.controller import Controller
from tuner.planning.command_line import as_command
from tuner.planning.launch_options import LaunchOptions
from tuner.store.evaluation_store import protocol_id
from tuner.tracking.champion import Standing
from tuner.tracking.model_registry import Registered, loading_lines, log_winner, registered_name


def register_winner(session: Session, controller: Controller, result: StudyResult) -> StudyResult:
    """Register the winner's predictor in MLflow; return the result with its name and the lines that load it.

    There are none without an answer of MLflow, which is said once, at the end of the launch.
    """
    plan = session.plan
    name = registered_name(
        plan.study, plan.dataset, plan.data_dir if DATASETS[plan.dataset].users_own else ""
    )
    made = _registered(session, controller, result, name)
    if made.note:
        session.console.note(made.note)
    if not made.version:
        return result
    lines = loading_lines(session.uri, name, made.version)
    return replace(result, model=f"{name}/{made.version}", model_lines=lines)


def export_command(session: Session) -> str:
    """Return the command that writes the winner as files."""
    options, default = session.options, LaunchOptions()
    words = ["--export", session.plan.run_name, "--format", "onnx"]
    for flag, value in (("--storage", options.storage), ("--study-storage", options.study_storage)):
        if value not in (default.storage, None):
            words += [flag, str(value)]
    return as_command(words)


def _registered(session: Session, controller: Controller, result: StudyResult, name: str) -> Registered:
    best, plan = result.best, session.plan
    assert best is not None
    complete = session.send_to_mlflow()
    run_id = session.tracker.child_id(best.key)
    if run_id is None or not complete:
        return Registered()
    try:
        model = controller.winner_predictor(best, source_of(plan, best.key))
    except (
        InputError,
        RayError,
    ) as error:  # a network that cannot be traced, a lost worker: the study is done
        return Registered(note=f"model {name} not logged: {one_line(error)}")
    tags = {"run": plan.run_name, "run_id": plan.run_id, "trial": best.label, "method": best.method}
    tags |= {"dataset": plan.dataset, "commit": session.facts["commit"], "content_hash": plan.content_hash}
    standing, move = _standing(session, result), session.options.champion
    parent = session.tracker.parent_id()
    with contextlib.redirect_stderr(io.StringIO()):  # "Successfully registered model ..." among our lines
        return log_winner(
            session.uri,
            run_id,
            model,
            name,
            standing,
            tags,
            move=move,
            parent_id=parent or "",
            note=note_on_model(session, result),
        )


def _standing(session: Session, result: StudyResult) -> Standing:
    """Return how the winner's configuration did in the confirm stage."""
    plan, winner = session.plan, result.arm("best")
    metric = claim_metric(plan)
    over_seeds = winner.seed_interval(metric) if winner else interval([])
    return Standing(
        metric,
        over_seeds.mean,
        over_seeds.half,
        over_seeds.n,
        str(session.folder.entries().get("data_version", "")),
        protocol_id(plan.test_protocol("confirm", "best")),
    )
