"""The options of `launch.py`: their names, their help, and their values checked. Imports nothing heavy."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from search_spaces.study import SAMPLERS, SCHEDULERS
from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.urls import without_password
from tuner.planning.plan import STAGES
from tuner.planning.resolve import Request

NEWEST = "<newest>"
EVERY = "<every>"
STDOUT = "<stdout>"


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
        "--status",
        nargs="?",
        const=EVERY,
        type=str,
        metavar="RUN",
        help="how a run stands: what runs, what waits, the best so far, the time left; without RUN one line each",
    )
    what.add_argument(
        "--why",
        nargs=2,
        type=str,
        metavar=("RUN", "TRIAL"),
        help="why a trial ended as it did; TRIAL is a number, or a name such as oe-0003 or confirm-0001",
    )
    what.add_argument(
        "--stop", type=str, metavar="RUN", help="have a run's driver save and end, here or on another machine"
    )
    what.add_argument(
        "--evaluate",
        type=str,
        metavar="CHECKPOINT",
        help="score one checkpoint on the test sets and exit: a file, RUN/TRIAL, or the id of an MLflow run",
    )
    what.add_argument(
        "--protocol",
        type=str,
        metavar="NAME",
        help="how to measure: quick, standard (default), full, autoattack; with --study: what the confirm stage "
        "measures beside the study's own protocol",
    )
    what.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=str,
        metavar="FILE",
        help="with --evaluate or --status: the answer as JSON, on the terminal if no file is named",
    )
    what.add_argument(
        "--stages", type=str, default=",".join(STAGES), help="some of search,evaluate,confirm,report"
    )
    size = p.add_argument_group("how much")
    size.add_argument("--trials", type=int, help="trials of the search (and of each tuned baseline)")
    size.add_argument("--max-epochs", type=int, help="epochs of a trial that is not stopped early")
    size.add_argument("--time-budget", type=str, help="start no trial after this time: 90s, 30m, 2h")
    size.add_argument(
        "--epoch-budget", type=int, help="start no trial once the searches have trained so many"
    )
    size.add_argument(
        "--gpu-budget",
        type=str,
        help="start no trial after so many GPU-seconds (CPU-seconds without a GPU): 2h",
    )
    size.add_argument("--confirm-seeds", type=int, help="fresh seeds of the confirm stage")
    size.add_argument("--seed", type=int, help="seed of the study (default 0)")
    how = p.add_argument_group("how")
    how.add_argument("--sampler", type=str, help=f"who chooses: {', '.join(SAMPLERS)} (default: the study's)")
    how.add_argument(
        "--scheduler", type=str, help=f"who stops: {', '.join(SCHEDULERS)} (default: the study's)"
    )
    how.add_argument(
        "--warm-start",
        type=str,
        metavar="RUN[,RUN]",
        help="let the sampler start with the trials of earlier runs",
    )
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
    machine.add_argument(
        "--gpus-per-trial",
        type=str,
        default="auto",
        help="share of a GPU, or auto: measured at start where there is a GPU",
    )
    machine.add_argument("--cpus-per-trial", type=int, help="CPUs and threads of a trial (default 1)")
    machine.add_argument(
        "--epoch-timeout",
        type=str,
        metavar="TIME",
        help="a trial that does not report for this long has hung: it fails, its worker is ended "
        "(default: ten times the longest epoch so far, at least 10m)",
    )
    machine.add_argument(
        "--concurrency",
        type=int,
        help="workers at a time, a trial or a pack in each (default: as many as fit)",
    )
    machine.add_argument(
        "--pack",
        type=str,
        default="auto",
        metavar="auto|K|off",
        help="trials side by side in one process, up to K (docs/packing.md); auto: measured on a GPU, off without",
    )
    machine.add_argument(
        "--address",
        type=str,
        default=environment.variable("TUNER_ADDRESS") or None,
        help="Ray cluster to join: auto or HOST:PORT (default: start one here); with --submit the job server's URL",
    )
    machine.add_argument(
        "--submit",
        action="store_true",
        help="run this command on the cluster behind --address (default http://127.0.0.1:8265) and follow it",
    )
    machine.add_argument(
        "--driver-on",
        type=str,
        metavar="IP",
        help="with --submit: node that drives the study (default: the head)",
    )
    keep = p.add_argument_group("kept where")
    keep.add_argument("--run-name", type=str, help="default: <study>-<UTC time>")
    keep.add_argument(
        "--storage",
        type=str,
        default=environment.variable("TUNER_STORAGE", "runs"),
        metavar="DIR|URI",
        help="root of the run folders",
    )
    keep.add_argument(
        "--study-storage",
        type=str,
        default=environment.variable("TUNER_STUDY_STORAGE") or None,
        metavar="URL",
        help="database of the study (default: in the run folder)",
    )
    keep.add_argument(
        "--tracking-uri", type=str, metavar="URI", help="MLflow store (default sqlite:///mlflow.db)"
    )
    return p


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


def check_what(options: Any) -> None:
    """Raise UsageError if the options name more than one thing to do, or none."""
    actions = ("list", "resume", "status", "why", "stop", "evaluate")
    given = [o for o in actions if getattr(options, o) not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} exclude each other; give one of them")
    if options.json and options.status is None and options.evaluate is None:
        raise UsageError(
            "--json goes with --evaluate or --status; a study writes its results into its run folder"
        )
    if not given and not options.study:
        raise UsageError("name a study with --study (see --list), for example --study aoe_sigma")


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
        time_budget_s=duration_s("--time-budget", options.time_budget),
        epoch_budget=at_least("--epoch-budget", options.epoch_budget, 1),
        gpu_budget_s=duration_s("--gpu-budget", options.gpu_budget),
        epoch_timeout_s=duration_s("--epoch-timeout", options.epoch_timeout),
        concurrency=at_least("--concurrency", options.concurrency, 1),
        seed=at_least("--seed", options.seed, 0),
        dataset=options.dataset,
        data_dir=options.data_dir,
        gpus_per_trial=gpu_share(options.gpus_per_trial),
        pack=pack_wish(options.pack),
        cpus_per_trial=at_least("--cpus-per-trial", options.cpus_per_trial, 1),
        sampler=options.sampler,
        scheduler=options.scheduler,
        warm_start=names(options.warm_start or ""),
        settings=tuple(options.set),
        stages=names(options.stages),
        confirm_seeds=options.confirm_seeds,
        protocol=options.protocol,
    )


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def at_least(option: str, value: int | None, low: int) -> int | None:
    if value is not None and value < low:
        raise UsageError(f"{option} is {value}; it must be at least {low}")
    return value


def duration_s(option: str, text: str | None) -> float | None:
    """Return seconds: "90s", "30m", "2h", "1.5h"; a bare number is seconds.

    Raises:
        UsageError: anything else, and nothing or less.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not match or float(match.group(1)) <= 0:
        raise UsageError(f"{option} is {text!r}; write for example 90s, 30m or 2h")
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


def pack_wish(text: str) -> int | None:
    """Return how many trials may share a process: 1 for off, None for auto.

    Raises:
        UsageError: neither a number from 1 to 256, nor auto, nor off.
    """
    if text in ("auto", "off"):
        return None if text == "auto" else 1
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise UsageError(f"--pack is {text!r}; it must be auto, off or a number of trials from 1 to 256")
    return int(text)


def check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"run name {name!r} may hold only letters, digits, '.', '_' and '-' (100 at most)")


def as_command(arguments: Sequence[str]) -> str:
    """Return the command line that these arguments were, for files and screens: without passwords."""
    words = []
    for argument in arguments:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        words.append(f"{option}{equals}{without_password(value)}" if "://" in value else argument)
    return shlex.join(["python", "launch.py", *words])


def resume_command(study: str, run: str, options: Any) -> str:
    """Return the exact command that continues a run which was started with these options."""
    words = ["--study", study, "--resume", run]
    for option, value, default in (
        ("--storage", options.storage, "runs"),
        ("--study-storage", options.study_storage, None),
        ("--tracking-uri", options.tracking_uri, None),
        ("--data-dir", options.data_dir, None),
        ("--address", options.address, None),
    ):
        if value != default and value is not None:
            words += [option, str(value)]
    return as_command(words)


def write_json(file: str, text: str) -> None:
    """Write what `--json FILE` asked for.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {file} cannot be written: {error.strerror}") from error


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
