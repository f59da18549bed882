"""The command line: options in, exit status out. Imports nothing heavy until a study really starts."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import search_spaces
from search_spaces.domain import Float, SpaceError
from trainables.base.errors import InputError
from tuner.base import environment
from tuner.base.errors import Interrupted, LeaseLost, StudyFailed, UsageError
from tuner.base.urls import redact, without_password
from tuner.planning import cost_history
from tuner.planning import plan as plans
from tuner.planning import resolve as resolving
from tuner.planning.arguments import (
    NEWEST,
    STDOUT,
    as_command,
    check_name,
    check_what,
    one_line,
    parse,
    to_request,
    write_json,
)
from tuner.planning.plan import Plan
from tuner.planning.resolve import Request
from tuner.store import warm_start
from tuner.store.run_folder import RunFolder, default_name, find_unfinished
from tuner.tracking.mlflow_uris import choose_uri


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        return _run(list(arguments))
    except (UsageError, InputError, SpaceError) as error:
        print(f"launch.py: {redact(one_line(error))}", file=sys.stderr)
        return 2
    except (StudyFailed, LeaseLost) as error:
        print(f"launch.py: {redact(one_line(error))}", file=sys.stderr)
        return 1
    except Interrupted as error:
        return error.exit_code
    except KeyboardInterrupt:  # before the controller has taken the signals: nothing has begun
        return 130
    except BrokenPipeError:
        return 1


def _run(arguments: list[str]) -> int:
    options = parse(arguments)
    check_what(options)
    if options.list:
        for name in search_spaces.NAMES:
            print(f"{name:24}{search_spaces.get(name).question}")
        return 0
    command = redact(as_command(arguments))
    if options.submit:
        return submit_to_cluster(options, arguments, command)
    for action in (_status, _why, _stop, _evaluate):
        if getattr(options, action.__name__[1:]) is not None:
            return action(options)
    folder, plan = find(options, command)
    if options.dry_run:
        from tuner.console.progress import plan_text

        print(plan_text(plan, pace=cost_history.measured(options.storage, plan)))
        return 0
    preflight(plan, folder, options)
    environment.apply_defaults()
    from tuner.commands.run import Service

    return Service(plan, folder, options, arguments, resume=options.resume is not None).run()


def submit_to_cluster(options: Any, arguments: list[str], command: str) -> int:
    """Have the command line run on a cluster; what is wrong with it is said here, before anything is sent."""
    from tuner.commands.submit import submit

    acts = [getattr(options, name) for name in ("resume", "status", "why", "stop", "evaluate")]
    new = bool(options.study) and not any(acts) and not options.dry_run
    run = options.resume if options.resume not in (None, NEWEST) else ""
    if new:
        run = options.run_name or default_name(options.study, "runs")
        check_name(run)
        resolving.resolve(to_request(options), run, command)
    return submit(arguments, address=options.address, run=run, new=new, driver_on=options.driver_on)


def _status(options: Any) -> int:
    from tuner.commands import status

    answer = status.answer(options)
    if options.json in (None, STDOUT):
        print(answer)
    else:
        write_json(options.json, answer)
    return 0


def _why(options: Any) -> int:
    from tuner.commands import explain

    print(explain.answer(options))
    return 0


def _evaluate(options: Any) -> int:
    from tuner.commands.evaluate import run_alone

    print(run_alone(options))
    return 0


def _stop(options: Any) -> int:
    from tuner.commands import stop

    return stop.stop(options, print)


def find(options: Any, command: str) -> tuple[RunFolder, Plan]:
    """Return the run's folder and plan: a new one, or the stored one with what a resume may change."""
    request = to_request(options)
    if options.resume is None:
        if "://" in options.storage and not options.study_storage:
            raise UsageError(
                f"--storage {options.storage} cannot hold a database; add --study-storage postgresql://..."
            )
        if options.run_name is not None:
            check_name(options.run_name)
            if RunFolder(options.storage, options.run_name).exists():
                raise UsageError(
                    f"run {options.run_name!r} exists in {options.storage}; "
                    f"continue it with --resume {options.run_name} or choose another name"
                )
        search_spaces.get(request.study)
        name = options.run_name or default_name(request.study, options.storage)
        plan = resolving.resolve(request, name, command)
        plan = warm_start.attach(plan, request.warm_start, options.storage, options.study_storage)
        return RunFolder(options.storage, name), plan
    name = options.resume
    if name == NEWEST:
        if not options.study:
            raise UsageError("--resume without a run's name needs --study")
        search_spaces.get(options.study)
        name = find_unfinished(options.study, options.storage)
    check_name(name)
    folder = RunFolder(options.storage, name)
    stored, facts = folder.read()
    options.study_storage = options.study_storage or facts.get("study_storage")
    if options.study and options.study != stored.study:
        raise UsageError(f"run {name!r} is of study {stored.study}, not {options.study}")
    return folder, amend(stored, request, command)


def amend(plan: Plan, request: Request, command: str) -> Plan:
    """Return a stored plan with what may change at a resume: its size, its machine, its stages.

    Raises:
        UsageError: the resume asks for another question (data set, parameters, seed) or another way to search.
    """
    for option, asked, stored in (
        ("--dataset", request.dataset, plan.dataset),
        ("--seed", request.seed, plan.seed),
        ("--max-epochs", request.max_epochs, plan.max_epochs),
        ("--sampler", request.sampler, plan.sampler),
        ("--scheduler", request.scheduler, plan.scheduler),
        ("--warm-start", ",".join(request.warm_start) or None, ",".join(plan.warm_start_runs) or "nothing"),
    ):
        if asked is not None and asked != stored:
            raise UsageError(f"{option} {asked} differs from the run's {stored}; a resume cannot change it")
    if request.settings:
        raise UsageError("--set cannot change a run that exists; start a new one")
    lanes = plan.lanes
    if request.trials is not None:
        if request.trials < plan.trials:
            raise UsageError(
                f"--trials {request.trials} is less than the run's {plan.trials}; it can only grow"
            )
        lanes = tuple(replace(lane, trials=request.trials) for lane in lanes)
    confirm, closer = (
        resolving.widen(p, request.protocol, plan.dataset) for p in (plan.confirm, plan.closer)
    )
    return replace(
        plan,
        lanes=lanes,
        confirm=plans.plain(confirm),
        closer=plans.plain(closer),
        data_dir=request.data_dir or plan.data_dir,
        stages=request.stages,
        time_budget_s=request.time_budget_s,
        epoch_budget=request.epoch_budget or plan.epoch_budget,
        gpu_budget_s=request.gpu_budget_s or plan.gpu_budget_s,
        epoch_timeout_s=request.epoch_timeout_s or plan.epoch_timeout_s,
        concurrency=request.concurrency or plan.concurrency,
        gpus_per_trial=request.gpus_per_trial if request.gpus_per_trial is not None else plan.gpus_per_trial,
        pack=request.pack if request.pack is not None else plan.pack,
        confirm_seeds=max(request.confirm_seeds or 0, plan.confirm_seeds),
        command=command,
    )


def preflight(plan: Plan, folder: RunFolder, options: Any) -> None:
    """Refuse what cannot work before Ray starts and before anything is written."""
    from trainables.data.types import catalog
    from trainables.data.types.availability import left_out
    from trainables.data.types.locations import check_dataset_files
    from trainables.data.types.outlier_files import check_outlier_files
    from trainables.options import build
    from trainables.options.common import OutlierOptions

    choose_uri(options.tracking_uri, environment.variable("MLFLOW_TRACKING_URI"))
    folder.storage_url(options.study_storage)
    if options.study_storage and options.resume is None:
        from tuner.store.trial_reader import has_run

        if has_run(options.study_storage, folder.name):
            raise UsageError(
                f"--study-storage {without_password(options.study_storage)} holds a run {folder.name!r} "
                "of another --storage; choose another --run-name"
            )
    if plan.data_dir and "://" not in plan.data_dir and not Path(plan.data_dir).is_dir():
        raise UsageError(f"--data-dir {plan.data_dir} is not a folder")
    downloads = check_dataset_files(plan.dataset, plan.data_dir)
    if "evaluate" in plan.stages or "confirm" in plan.stages:
        shape = catalog.get(plan.dataset, plan.data_dir).shape
        for line in left_out(plan.dataset, shape, plan.data_dir, plan.tested_groups):
            judged = "corruptions" in line and plan.headline[:1] == ("test/accuracy/corrupted",)
            print(f"note: {line}{' (and the study is judged by it)' if judged else ''}")
    for lane in plan.lanes:
        wanted = {
            key.removeprefix("outliers."): value
            for key, value in lane.fixed.items()
            if key.startswith("outliers.")
        }
        if wanted.get("generator") in ("npz", "images300k"):
            sigmas = lane.space.get("outliers.sigma")
            if isinstance(sigmas, Float):
                raise UsageError(
                    f"outliers.sigma is {sigmas}, but files exist for single values only; "
                    "use for example --set 'outliers.sigma=choice(1.0, 2.0)'"
                )
            values = getattr(sigmas, "options", None) or (wanted.get("sigma", 1.0),)
            for sigma in values:
                settled = build(OutlierOptions, wanted | {"sigma": sigma})
                check_outlier_files(settled, catalog.get(plan.dataset, plan.data_dir).shape)
    if downloads:
        print(downloads)
        if (
            options.address is None
        ):  # here, where its progress is seen; on a cluster each node fetches its own
            from trainables.data.download import ensure

            ensure(plan.dataset, plan.data_dir)
