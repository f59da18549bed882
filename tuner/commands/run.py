"""Starts or resumes a study: opens a session, runs the stages, publishes the results."""

from tuner.commands.mlflow_pages import open_pages
from tuner.commands.publishing import publish
from tuner.commands.session import Session, open_session
from tuner.commands.stages import run_stages
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.store.run_folder import RunFolder


def run_study(plan: Plan, folder: RunFolder, options: LaunchOptions) -> int:
    """Drive a run to its end and return the exit status (0, 1, 130, 143).

    Raises:
        StudyFailed: every trial failed, a stage failed, or the study cannot go on for now.
        LeaseLost: another driver has taken the run over.
        UsageError, InputError: the options do not suit this machine, its cluster or the data.
    """
    with open_session(plan, folder, options) as session:
        return session.carry_out(_stages_and_results)


def _stages_and_results(session: Session) -> int:
    open_pages(session)
    controller, failure = run_stages(session)
    return publish(session, controller, failure)
