"""Starts or resumes the run that launch options ask for: its plan, the checks before the start, the launch."""

from collections.abc import Sequence

from tuner.base import driver_report, environment
from tuner.base.text import show
from tuner.commands.named_before import remember_cache
from tuner.commands.open_run import new_run, stored_run
from tuner.commands.preflight import preflight
from tuner.planning.command_line import resume_arguments, resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.user_code import remember_code
from tuner.store.run_folder import RunFolder


def planned(options: LaunchOptions, command: str) -> tuple[RunFolder, Plan, LaunchOptions]:
    """Return folder and plan of the run to start or to resume, and the options as they then are; changes nothing.

    Raises:
        UsageError: the plan cannot be carried out, or there is no such run.
    """
    if options.resume is None:
        return *new_run(options, command), options
    return stored_run(options, command)


def start(options: LaunchOptions, arguments: Sequence[str], command: str) -> tuple[RunFolder, int]:
    """Drive a run to its end and return its folder and the exit status (0, 1, 129, 130, 143).

    Args:
        arguments: the command line that the options were read from; command: the same as it is stored.

    Raises:
        UsageError, InputError: nothing has been started.
        StudyFailed, LeaseLost: see `tuner.commands.run.run_study`.
        Interrupted: a signal came before the run was begun.
    """
    folder, plan, options = planned(options, command)
    driver_report.tell(
        run=folder.name,
        storage=folder.root,
        log=str(folder.local / "console.log"),
        resume_command=resume_command(plan.study, folder.name, options),
        resume_arguments=resume_arguments(arguments, plan.study, folder.name),
        restart=options.restart or 0,
    )
    preflight(plan, folder, options, show)
    remember_code(plan)
    remember_cache(plan)
    environment.apply_defaults()
    from tuner.commands.run import run_study  # here: it imports Ray

    return folder, run_study(plan, folder, options)
