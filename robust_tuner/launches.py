"""`run`, `resume`, `evaluate` and `load_run`: what the command line does, called from Python."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

from robust_tuner.arguments import command_line, described, signature
from robust_tuner.errors import Interrupted, in_one_line
from robust_tuner.options import EvaluateArguments, ResumeArguments, RunArguments
from robust_tuner.runs import Run
from search_spaces.study import Study
from tuner.base import environment, errors
from tuner.base.errors import StudyFailed, UsageError
from tuner.base.urls import redact
from tuner.planning.command_line import as_command, parse
from tuner.planning.own_study import offer_study
from tuner.planning.task_options import NEWEST

Function = TypeVar("Function", bound=Callable[..., Any])


def _spelt_out(action: str) -> Callable[[Function], Function]:
    """Give a function the signature and the documentation of its options."""

    def spell(function: Function) -> Function:
        function.__signature__ = signature(function, action)  # type: ignore[attr-defined]
        function.__doc__ = f"{(function.__doc__ or '').rstrip()}\n\n    Options:\n{described(action)}\n    "
        return function

    return spell


@_spelt_out("study")
def run(study: str | Path | Study = "", *, quiet: bool = False, **options: Unpack[RunArguments]) -> Run:
    """Start a study, or with `method=` one of a method alone, drive it to its end and return the run.

    The progress is printed, few lines and no live table where the output is no terminal. The first Ctrl-C saves and
    ends with `Interrupted`, a second one at once.

    Args:
        study: a name of `robust-tune --list`, the path of a file of yours, or a `Study`; what that holds of your own
            has to be imported from a file (docs/own_code.md).
        quiet: print nothing; `console.log` in the run folder has it all.
        options: those of the command line, `--time-budget 30m` as `time_budget="30m"`, `--set lr=0.001` as
            `settings={"lr": 0.001}`; a range is Float(1e-4, 1e-2, log=True), Int(1, 9) or Choice(("a", "b")).

    Raises:
        UsageError: nothing was started.
        StudyFailed: every trial failed, or a stage.
        Interrupted: everything is saved.
        LeaseLost: another driver has taken the run over.
    """
    with in_one_line():
        name = offer_study(study) if isinstance(study, Study) else str(study)
    words = ["--study", name] if name else []
    return _driven([*words, *_read("study", options)], quiet)


@_spelt_out("resume")
def resume(
    run: str | Run | Path = "", *, study: str = "", quiet: bool = False, **options: Unpack[ResumeArguments]
) -> Run:
    """Continue a run that was interrupted or killed, or extend a finished one, and return it.

    Args:
        run: its name, its folder or a `Run`; without, the newest unfinished run of the study.
        study: a name of `robust-tune --list`.
        quiet: print nothing.
        options: as of `run`; those that decide results cannot change.

    Raises:
        As `run`.
    """
    name, where = _named(run, options)
    words = ["--resume", *([name] if name else []), *(["--study", study] if study else [])]
    return _driven([*words, *_read("resume", {**options, **where})], quiet)


def _read(action: str, options: Mapping[str, Any]) -> list[str]:
    with in_one_line():
        return command_line(action, options)


def _named(run: str | Run | Path, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a run's name and, if its place is known, the storage that it is in."""
    if isinstance(run, Run):
        return run.name, {
            "storage": run.storage,
            "study_storage": options.get("study_storage", run.study_storage),
        }
    name, root = _name_and_root(run)
    return name, {} if root is None else {"storage": root}


def _name_and_root(run: str | Path) -> tuple[str, str | None]:
    """Return the name of a run and the root of its folder, None if only the name was given."""
    text = str(run).rstrip("/")
    root, slash, name = text.rpartition("/")
    if slash:
        return name, root or "/"
    return text, None


def _driven(words: Sequence[str], quiet: bool) -> Run:
    """Start or continue the run of a command line in this process and return it."""
    _refuse_a_ray_of_the_users()
    with in_one_line():
        options = parse(words)
        from tuner.commands.start import start

        silent = contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext()
        try:
            with silent:
                folder, code = start(options, words, redact(as_command(words)))
        except errors.Interrupted as error:
            begun = "" if options.resume in (None, NEWEST) else str(options.resume)
            raise Interrupted(begun, error.exit_code) from None
        if code > 128:
            raise Interrupted(folder.name, code)
        if code:
            ended = folder.entries().get("ended") or {}
            raise StudyFailed(ended.get("reason") or f"run {folder.name} has failed")
        return Run.read(folder.name, folder.root, options.study_storage)


def _refuse_a_ray_of_the_users() -> None:
    """Raise UsageError if Ray runs in this process: the launch would use it, and shut it down at its end."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise UsageError("Ray runs in this process already; end it with ray.shutdown()")


def load_run(run: str | Path, *, storage: str | Path | None = None, study_storage: str | None = None) -> Run:
    """Return a run as it is stored now; changes nothing, and works while it is driven elsewhere.

    Args:
        run: its folder, or its name below `storage`.
        storage: root of the run folders; default TUNER_STORAGE or "runs".
        study_storage: the study's database; default the one that the run was started with.

    Raises:
        UsageError: there is no such run, or it cannot be read.
    """
    name, root = _name_and_root(run)
    if root is None:
        root = str(storage or environment.variable("TUNER_STORAGE") or "runs")
    elif storage is not None:
        raise UsageError(f"{run} is a folder; give its name alone with storage={str(storage)!r}")
    with in_one_line():
        return Run.read(name, root, study_storage)


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """Give the process back its number of threads: an evaluation has its own, which its results depend on."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What was measured of one checkpoint.

    Attributes:
        metrics: {"test/...": value}, NaN where there is none.
        protocol: fields of the protocol that it was measured by.
        remarks: lines to be read with the numbers: attacks that do not hold, sets that were left out.
    """

    checkpoint: str
    method: str
    network: str
    dataset: str
    epoch: int
    metrics: Mapping[str, float]
    protocol: Mapping[str, Any]
    remarks: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return f"{self.checkpoint} on {self.dataset}: {len(self.metrics)} metrics by protocol {self.protocol['name']}"


@_spelt_out("evaluate")
def evaluate(checkpoint: str | Path, **options: Unpack[EvaluateArguments]) -> Evaluation:
    """Score one checkpoint on the test sets, without a study and without Ray.

    Args:
        checkpoint: a file, "RUN/TRIAL", or the id of an MLflow run; with `network=` a file of weights alone.
        options: as of `--evaluate`: protocol, dataset, settings and so on.

    Raises:
        UsageError: a checkpoint, data set or protocol that does not suit.
    """
    with in_one_line():
        given = parse(["--evaluate", str(checkpoint), *command_line("evaluate", options)])
        from tuner.commands.evaluate import measured

        with _threads_kept():
            found = measured(given)
    names = ("checkpoint", "method", "network", "dataset", "epoch", "protocol", "seconds")
    metrics = {name: float("nan") if value is None else value for name, value in found["metrics"].items()}
    return Evaluation(
        **{name: found[name] for name in names}, metrics=metrics, remarks=tuple(found["remarks"])
    )
