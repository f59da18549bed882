"""The folder and the plan of the run that a command line starts or resumes."""

from collections.abc import Sequence
from dataclasses import replace

from tuner.base.errors import UsageError
from tuner.commands.named_before import refuse_unknown_cache
from tuner.planning.amend import amend
from tuner.planning.chosen_study import chosen_study, study_name
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, new_run_id
from tuner.planning.resolve import resolve
from tuner.planning.task_options import NEWEST
from tuner.store import warm_start
from tuner.store.known_storages import storage_to_read
from tuner.store.plan_file import begun, has_done_as_asked
from tuner.store.run_folder import RunFolder, default_name, find_unfinished


def new_run(options: LaunchOptions, command: str) -> tuple[RunFolder, Plan]:
    """Return the folder, which does not exist yet, and the plan of a new run.

    Raises:
        UsageError: the name is taken, or the plan cannot be carried out.
    """
    if "://" in options.storage and not options.study_storage:
        raise UsageError(
            f"--storage {options.storage} cannot hold a database; add --study-storage postgresql://..."
        )
    if options.stages and "search" not in options.stages:
        raise UsageError(
            f"{_without_trials(options.stages)} a new run has none; add search, or name a run with --resume"
        )
    if options.run_name is not None:
        _check_name_is_free(RunFolder(options.storage, options.run_name))
    chosen_study(options)
    name = options.run_name or default_name(study_name(options), options.storage)
    plan = replace(resolve(options, name, command), run_id=new_run_id(name))
    plan = warm_start.attach(plan, options.warm_start, options.storage, options.study_storage)
    return RunFolder(options.storage, name), plan


def _without_trials(stages: Sequence[str]) -> str:
    return f"--stages {','.join(stages)} needs trials, and"


def _check_name_is_free(folder: RunFolder) -> None:
    if folder.exists():
        raise UsageError(
            f"run {folder.name!r} exists in {folder.root}; "
            f"continue it with --resume {folder.name} or choose another name"
        )
    if folder.local.is_file():
        raise UsageError(f"{folder.local} is a file; choose another --run-name")
    if left := folder.left_over():
        raise UsageError(
            f"{folder.uri} holds {', '.join(left[:3])} and no plan.json: no run that can go on, and no empty folder; "
            "move it away or choose another --run-name"
        )


def stored_run(options: LaunchOptions, command: str) -> tuple[RunFolder, Plan, LaunchOptions]:
    """Return the folder of the run to resume, its plan as amended, and the options with its study storage.

    Raises:
        UsageError: no such run, a copy of one, or the options ask for a change that a resume cannot make.
    """
    assert options.resume is not None
    name = options.resume
    if name == NEWEST:
        if not options.study and not options.method:
            raise UsageError("--resume without a run's name needs --study")
        name = _newest(options)
    folder = RunFolder(options.storage, name)
    stored, facts = folder.read()
    folder.refuse_copy(facts)
    asked = study_name(options)
    if asked and asked != stored.study:
        raise UsageError(f"run {name!r} is of study {stored.study}, not {asked}")
    plan = amend(stored, options, command, interrupted=not has_done_as_asked(facts))
    refuse_unknown_cache(plan, options)
    stored_url = facts.get("study_storage")
    if options.study_storage or stored_url:
        options = replace(options, study_storage=storage_to_read(folder, options.study_storage, stored_url))
    _check_trials(folder, stored, options, begun(facts))
    return folder, plan, options


def _newest(options: LaunchOptions) -> str:
    """Return the newest unfinished run of a study."""
    try:
        return find_unfinished(study_name(options), options.storage)
    except UsageError:
        chosen_study(options)  # a misspelt name has no runs either
        raise


def _check_trials(folder: RunFolder, plan: Plan, options: LaunchOptions, begun: bool) -> None:
    """Read what is stored of a run once: damage is told before anything is written.

    Raises:
        UsageError: a value is not what was written, or there is no trial for the stages to work on.
    """
    from tuner.store.trial_reader import read_trials

    records, _ = read_trials(folder.storage_url(options.study_storage), plan, begun)
    if not records and options.stages and "search" not in options.stages:
        raise UsageError(f"{_without_trials(options.stages)} run {folder.name!r} has none yet; add search")
