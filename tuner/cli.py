"""The command line of `launch.py`: from arguments to an exit status. Imports nothing heavy until a study starts."""

import os
import sys
from collections.abc import Callable, Sequence

from search_spaces.domain import SpaceError
from trainables.base.errors import InputError
from tuner.base import driver_report, environment
from tuner.base.errors import Interrupted, LeaseLost, StudyFailed, StudyHalted, UsageError
from tuner.base.program import program_name
from tuner.base.text import one_line, show
from tuner.base.urls import redact
from tuner.planning import cost_history
from tuner.planning.command_line import as_command, parse
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.own_study import find_study, study_names
from tuner.planning.task_options import STDOUT


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        _check_folder()
        return _run(list(arguments))
    except (UsageError, InputError, SpaceError) as error:
        print(f"{program_name()}: {one_line(error, limit=None)}", file=sys.stderr)
        return 2
    except (StudyFailed, LeaseLost) as error:
        driver_report.tell(halted=isinstance(error, StudyHalted))
        print(f"{program_name()}: {one_line(error, limit=None)}", file=sys.stderr)
        return 1
    except Interrupted as error:
        return error.exit_code
    except KeyboardInterrupt:  # before the controller has taken the signals: nothing has begun
        return 130
    except BrokenPipeError:
        return 1


def _check_folder() -> None:
    """Raise UsageError if the folder that this process works in was deleted: no path can be made out."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the working folder was deleted; change to one that exists") from None


def _run(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list_studies:
        return _list()
    command = redact(as_command(arguments))
    if options.submit:
        from tuner.commands.submit import submit_launch

        return submit_launch(options, arguments, command)
    if options.action in ANSWERS:
        return _answered(lambda: ANSWERS[options.action](options))
    if options.dry_run:
        return _answered(lambda: _preview(options, command))
    return _study(options, arguments, command)


def _study(options: LaunchOptions, arguments: list[str], command: str) -> int:
    from tuner.commands.start import start

    return start(options, arguments, command)[1]


def _answered(answer: Callable[[], int]) -> int:
    """Return what a question returns.

    Raises:
        UsageError: the system refuses something that it needs; where a study runs, that is a failure of the study.
    """
    try:
        return answer()
    except BrokenPipeError:
        raise
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        raise UsageError(f"{subject}{error.strerror or error}") from error


def _preview(options: LaunchOptions, command: str) -> int:
    """Print the plan of a study that is not started."""
    from tuner.commands.start import planned
    from tuner.console.preview import plan_text

    _, plan, options = planned(options, command)
    cpus = os.cpu_count() if options.address is None else None
    show(plan_text(plan, costs=cost_history.measured(options.storage, plan), cpus=cpus))
    return 0


def _list() -> int:
    for name in study_names():
        try:
            show(f"{name:24}{find_study(name).question}")
        except InputError as error:  # of a package; the others are listed all the same
            show(f"{name:24}{one_line(error)}")
    return 0


def _version(options: LaunchOptions) -> int:
    show(f"robust-tuner {environment.version('robust-tuner', absent='unknown')}")
    return 0


def _status(options: LaunchOptions) -> int:
    from tuner.commands import status
    from tuner.commands.json_file import write_json

    answer = status.answer(options)
    if options.json in (None, STDOUT):
        show(answer)
    else:
        write_json(options.json, answer)
    return 0


def _why(options: LaunchOptions) -> int:
    from tuner.commands import explain

    show(explain.answer(options))
    return 0


def _compare(options: LaunchOptions) -> int:
    from tuner.commands.compare import compare

    show(compare(options))
    return 0


def _watch(options: LaunchOptions) -> int:
    from tuner.commands.watch import watch

    return watch(options, show)


def _evaluate(options: LaunchOptions) -> int:
    from tuner.commands.evaluate import evaluate

    show(evaluate(options))
    return 0


def _new(options: LaunchOptions) -> int:
    from tuner.commands.skeleton import write_skeleton

    assert options.new is not None
    show(write_skeleton(*options.new))
    return 0


def _export(options: LaunchOptions) -> int:
    from tuner.commands.export import export

    show(export(options))
    return 0


def _export_tables(options: LaunchOptions) -> int:
    from tuner.commands.export_tables import export_tables

    show(export_tables(options))
    return 0


def _stop(options: LaunchOptions) -> int:
    from tuner.commands import stop

    return stop.stop(options, show)


def _check_data(options: LaunchOptions) -> int:
    from tuner.commands.check_data import check_data

    return check_data(options, show)


#: {field of an action: what answers it without starting a study}
ANSWERS: dict[str, Callable[[LaunchOptions], int]] = {
    "version": _version,
    "new": _new,
    "status": _status,
    "why": _why,
    "compare": _compare,
    "watch": _watch,
    "stop": _stop,
    "evaluate": _evaluate,
    "check_data": _check_data,
    "export": _export,
    "export_tables": _export_tables,
}
