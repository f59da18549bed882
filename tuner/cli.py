"""The command line: options in, exit status out. Imports nothing heavy until a study really starts."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

import search_spaces
from search_spaces.domain import Float, SpaceError
from trainables.errors import InputError
from tuner import environment
from tuner import plan as plans
from tuner.errors import Interrupted, StudyFailed, UsageError
from tuner.plan import STAGES, Plan, Request
from tuner.run_folder import RunFolder, default_name, find_unfinished

NEWEST = "<newest>"


def parser() -> ArgumentParser:
    """Return the parser of `launch.py`."""
    p = ArgumentParser(
        prog="launch.py",
        description="Search the hyperparameters of a robust or out-of-distribution-aware classifier.",
        exit_on_error=False,
        default_env=False,
    )
    what = p.add_argument_group("what to do")
    what.add_argument("--study", type=str, help="the study to run or resume; see --list")
    what.add_argument("--list", action="store_true", help="list the studies, one line each")
    what.add_argument(
        "--dry-run", action="store_true", help="print the resolved plan and its cost; change nothing"
    )
    what.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        type=str,
        metavar="RUN",
        help="continue the study's newest unfinished run, or the named one",
    )
    what.add_argument(
        "--stages", type=str, default=",".join(STAGES), help="some of search,evaluate,confirm,report"
    )
    size = p.add_argument_group("how much")
    size.add_argument("--trials", type=int, help="trials of the search (and of each tuned baseline)")
    size.add_argument("--max-epochs", type=int, help="epochs of a trial that is not stopped early")
    size.add_argument("--time-budget", type=str, help="start no trial after this time: 90s, 30m, 2h")
    size.add_argument("--confirm-seeds", type=int, help="fresh seeds of the confirm stage")
    size.add_argument("--seed", type=int, help="seed of the study (default 0)")
    where = p.add_argument_group("on what")
    where.add_argument("--dataset", type=str, help="data set (default: the study's built-in one)")
    where.add_argument("--data-dir", type=str, metavar="DIR", help="folder of the data set's files")
    where.add_argument(
        "--set",
        action="append",
        default=[],
        type=str,
        metavar="KEY=VALUE",
        help="fix or re-range a parameter: attack.epsilon=0.03, 'lr=loguniform(1e-4,1e-1)'",
    )
    machine = p.add_argument_group("with what")
    machine.add_argument("--gpus-per-trial", type=str, default="auto", help="share of a GPU, or auto")
    machine.add_argument("--cpus-per-trial", type=int, help="CPUs and threads of a trial (default 1)")
    machine.add_argument("--concurrency", type=int, help="trials at a time (default: as many as fit)")
    machine.add_argument(
        "--address", type=str, help="Ray cluster to join: auto or HOST:PORT (default: start one here)"
    )
    keep = p.add_argument_group("kept where")
    keep.add_argument("--run-name", type=str, help="default: <study>-<UTC time>")
    keep.add_argument(
        "--storage", type=str, default="runs", metavar="DIR|URI", help="root of the run folders"
    )
    keep.add_argument(
        "--study-storage", type=str, metavar="URL", help="database of the study (default: in the run folder)"
    )
    keep.add_argument(
        "--tracking-uri", type=str, metavar="URI", help="MLflow store (default sqlite:///mlflow.db)"
    )
    return p


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        return _run(list(arguments))
    except (UsageError, InputError, SpaceError) as error:
        print(f"launch.py: {one_line(error)}", file=sys.stderr)
        return 2
    except StudyFailed as error:
        print(f"launch.py: {one_line(error)}", file=sys.stderr)
        return 1
    except Interrupted as error:
        return error.exit_code
    except KeyboardInterrupt:  # before the controller has taken the signals: nothing has begun
        return 130
    except BrokenPipeError:
        return 1


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _run(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        for name in search_spaces.NAMES:
            print(f"{name:24}{search_spaces.get(name).question}")
        return 0
    if not options.study and not options.resume:
        raise UsageError("name a study with --study (see --list), for example --study aoe_sigma")
    command = shlex.join(["python", "launch.py", *arguments])
    folder, plan = find(options, command)
    if options.dry_run:
        from tuner.console import plan_text

        print(plan_text(plan))
        return 0
    preflight(plan, folder, options)
    environment.apply_defaults()
    from tuner.service import Service

    return Service(plan, folder, options, arguments, resume=options.resume is not None).run()


def parse(arguments: list[str]) -> Any:
    """Return the parsed options.

    Raises:
        UsageError: an unknown option or a value of another type, in one line.
    """
    import argparse

    try:
        return parser().parse_args(arguments)
    except argparse.ArgumentError as error:
        text = one_line(error)
        wrong = re.search(r"key \"(\w+)\": Expected a <class '(\w+)'>. Got value: (.*)", text)
        if wrong:
            kind = {"int": "a whole number", "float": "a number"}.get(wrong[2], wrong[2])
            text = f"--{wrong[1].replace('_', '-')} is {wrong[3]!r}; it must be {kind}"
        raise UsageError(f"{text} (see --help)") from error


def find(options: Any, command: str) -> tuple[RunFolder, Plan]:
    """Return the run's folder and plan: a new one, or the stored one with what a resume may change."""
    request = to_request(options)
    if "://" in options.storage and not options.study_storage:
        raise UsageError(
            f"--storage {options.storage} cannot hold a database; add --study-storage postgresql://..."
        )
    if options.resume is None:
        if options.run_name is not None:
            check_name(options.run_name)
            if RunFolder(options.storage, options.run_name).exists():
                raise UsageError(
                    f"run {options.run_name!r} exists in {options.storage}; "
                    f"continue it with --resume {options.run_name} or choose another name"
                )
        search_spaces.get(request.study)
        name = options.run_name or default_name(request.study, options.storage)
        return RunFolder(options.storage, name), plans.resolve(request, name, command)
    name = options.resume
    if name == NEWEST:
        if not options.study:
            raise UsageError("--resume without a run's name needs --study")
        search_spaces.get(options.study)
        name = find_unfinished(options.study, options.storage)
    check_name(name)
    folder = RunFolder(options.storage, name)
    stored, _ = folder.read()
    if options.study and options.study != stored.study:
        raise UsageError(f"run {name!r} is of study {stored.study}, not {options.study}")
    return folder, amend(stored, request, command)


def amend(plan: Plan, request: Request, command: str) -> Plan:
    """Return a stored plan with what may change at a resume: its size, its machine, its stages.

    Raises:
        UsageError: the resume asks for another question (data set, parameters, seed).
    """
    for option, asked, stored in (
        ("--dataset", request.dataset, plan.dataset),
        ("--seed", request.seed, plan.seed),
        ("--max-epochs", request.max_epochs, plan.max_epochs),
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
    return replace(
        plan,
        lanes=lanes,
        data_dir=request.data_dir or plan.data_dir,
        stages=request.stages,
        time_budget_s=request.time_budget_s,
        concurrency=request.concurrency or plan.concurrency,
        gpus_per_trial=request.gpus_per_trial if request.gpus_per_trial is not None else plan.gpus_per_trial,
        confirm_seeds=max(request.confirm_seeds or 0, plan.confirm_seeds),
        command=command,
    )


def to_request(options: Any) -> Request:
    """Return the options as a request.

    Raises:
        UsageError: a number, a duration or a list that cannot be read.
    """
    return Request(
        study=options.study or "",
        run_name=options.run_name,
        trials=options.trials,
        max_epochs=options.max_epochs,
        time_budget_s=duration_s(options.time_budget),
        concurrency=at_least("--concurrency", options.concurrency, 1),
        seed=at_least("--seed", options.seed, 0),
        dataset=options.dataset,
        data_dir=options.data_dir,
        gpus_per_trial=gpu_share(options.gpus_per_trial),
        cpus_per_trial=at_least("--cpus-per-trial", options.cpus_per_trial, 1),
        settings=tuple(options.set),
        stages=tuple(part.strip() for part in options.stages.split(",") if part.strip()),
        confirm_seeds=options.confirm_seeds,
    )


def at_least(option: str, value: int | None, low: int) -> int | None:
    if value is not None and value < low:
        raise UsageError(f"{option} is {value}; it must be at least {low}")
    return value


def duration_s(text: str | None) -> float | None:
    """Return seconds: "90s", "30m", "2h", "1.5h"; a bare number is seconds.

    Raises:
        UsageError: anything else, and nothing or less.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not match or float(match.group(1)) <= 0:
        raise UsageError(f"--time-budget is {text!r}; write for example 90s, 30m or 2h")
    return float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]


def gpu_share(text: str) -> float | None:
    """Return the GPU share of a trial, None for auto.

    Raises:
        UsageError: not a number, negative, or above 1 and not whole.
    """
    if text == "auto":
        return None
    try:
        share = float(text)
    except ValueError:
        raise UsageError(f"--gpus-per-trial is {text!r}; it must be auto or a number such as 0.25") from None
    if not 0 <= share < 1000 or (share > 1 and share != int(share)):
        raise UsageError(f"--gpus-per-trial is {text}; it must be from 0 to 1, or a whole number")
    return share


def check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"run name {name!r} may hold only letters, digits, '.', '_' and '-' (100 at most)")


def preflight(plan: Plan, folder: RunFolder, options: Any) -> None:
    """Refuse what cannot work before Ray starts and before anything is written."""
    from trainables.data import catalog
    from trainables.data.locations import check_dataset_files
    from trainables.data.outlier_files import check_outlier_files
    from trainables.options import build
    from trainables.options.common import OutlierOptions
    from tuner.tracking import check_uri

    if options.tracking_uri:
        check_uri(options.tracking_uri)
    folder.storage_url(options.study_storage)
    if plan.data_dir and "://" not in plan.data_dir and not Path(plan.data_dir).is_dir():
        raise UsageError(f"--data-dir {plan.data_dir} is not a folder")
    downloads = check_dataset_files(plan.dataset, plan.data_dir)
    if downloads:
        print(downloads)
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
