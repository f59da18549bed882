"""`launch.py --submit`: packages the project, submits the command line through Ray Jobs, follows its console.

The job belongs to the cluster. Following it may end, by Ctrl-C, a closed lid or a cut line, and start again; the
study goes on.
"""

import datetime
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tuner.base import environment
from tuner.base.errors import Interrupted, StudyFailed, UsageError
from tuner.base.program import program
from tuner.base.text import one_line, show
from tuner.commands.source_export import export
from tuner.planning.chosen_study import study_name
from tuner.planning.command_line import forwarded, parse
from tuner.planning.launch_options import LaunchOptions, launch_options
from tuner.planning.resolve import resolve
from tuner.planning.task_options import NEWEST
from tuner.store.run_folder import RunFolder, default_name

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
POLL_S = 1.0
PATIENCE_S = 900.0  # how long the cluster may be out of reach before following ends
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED_CODE = 143


class Jobs(Protocol):
    """What is used of `ray.job_submission.JobSubmissionClient`."""

    def submit_job(
        self,
        *,
        entrypoint: str,
        submission_id: str | None = None,
        runtime_env: dict[str, Any] | None = None,
        metadata: dict[str, str] | None = None,
        entrypoint_resources: dict[str, float] | None = None,
    ) -> str: ...
    def list_jobs(self) -> Sequence[Any]: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def get_job_logs(self, job_id: str) -> str: ...


def submit_launch(options: LaunchOptions, arguments: Sequence[str], command: str) -> int:
    """Run a command line on a cluster and return its exit status; what is wrong with it is said before it is sent.

    Raises:
        UsageError, StudyFailed: see `submit`; the plan of a new run cannot be carried out.
    """
    new = options.action == "study" and not options.dry_run
    run = options.resume if options.resume not in (None, NEWEST) else ""
    code: Mapping[str, Path] = {}
    if new:
        run = options.run_name or default_name(study_name(options), "runs")
        code = shipped(resolve(options, run, command).code, Path.cwd())
    elif run and "://" not in options.storage and (folder := RunFolder(options.storage, run)).exists():
        code = shipped(folder.read()[0].code, Path.cwd())
    return submit(
        arguments, address=options.address, run=run, new=new, driver_on=options.driver_on, code=code
    )


def shipped(code: Iterable[str], folder: Path) -> dict[str, Path]:
    """Return {path in the job's folder: file} of the user's own files, which are at the same place below `folder`.

    What is installed as a package is left out: the nodes have it or have not.

    Raises:
        UsageError: a file is not below the folder, so that the command line would not find it in the job.
    """
    found = {}
    for path in code:
        file = environment.ROOT / path
        if "site-packages" in file.parts:
            continue
        if not file.is_relative_to(folder):
            file = folder / path  # of a run that a job began: below its own folder
        if not file.is_relative_to(folder) or not file.is_file():
            raise UsageError(f"--submit sends your own code from {folder} only, and {path} is not below it")
        found[str(file.relative_to(folder))] = file
    return found


def submit(
    arguments: Sequence[str],
    *,
    address: str | None,
    run: str,
    new: bool,
    driver_on: str | None = None,
    code: Mapping[str, Path] | None = None,
) -> int:
    """Run a command line on the cluster behind the job server and return its exit status there.

    Args:
        arguments: of launch.py, as given here.
        address: of the job server, None for this machine's end of the tunnel that `ray dashboard` opens.
        run: the run that the command starts or continues, "" for a command that drives none (a status, say).
        new: whether it starts `run`; a run that is being driven already is followed instead of continued.
        driver_on: address of the node that holds the driver, None for the head.
        code: {path in the job's folder: file} of the user's own files.

    Raises:
        UsageError: no cluster there, a token that it refuses, or a project that cannot be packaged.
        StudyFailed: the job could not be started, or the cluster lost it.
    """
    address = job_server(address)
    jobs = connect(address)
    job = "" if new or not run else find_running(jobs, run)
    if job:
        show(f"run {run} is being driven by job {job}; following that")
    else:
        resources = {f"node:{driver_on}": 0.001} if driver_on else None
        with tempfile.TemporaryDirectory(prefix="robust-tune-") as folder:
            project = export(Path(folder) / "project", more=code)
            try:
                job = jobs.submit_job(
                    entrypoint=entrypoint(arguments, run if new else "", code),
                    submission_id=f"{run or 'command'}-{datetime.datetime.now(datetime.UTC):%H%M%S%f}"[:120],
                    runtime_env={"working_dir": str(project)},
                    metadata={"run": run},
                    entrypoint_resources=resources,
                )
            except (OSError, RuntimeError) as error:
                reason = one_line(error, limit=None)[:200]
                raise StudyFailed(
                    f"the cluster at {address} did not take the job ({reason}); try again"
                ) from error
        show(f"job {job} at {address}")
    try:
        return follow(jobs, job)
    except KeyboardInterrupt:
        print(f"\n{detached(job, address, run)}", file=sys.stderr, flush=True)
        raise Interrupted(130) from None


def job_server(address: str | None) -> str:
    """Return the address of the Ray job server, which is not that of the cluster.

    Raises:
        UsageError: the address is one of the other kind.
    """
    if address in (None, "auto"):
        return DEFAULT_ADDRESS
    if not address.startswith(("http://", "https://")):
        raise UsageError(
            f"--address {address} with --submit must be the job server's, for example {DEFAULT_ADDRESS}; "
            "`ray dashboard cluster.yaml` opens a tunnel to it"
        )
    return address.rstrip("/")


def connect(address: str) -> Jobs:
    """Return a client of the job server; the token is taken from RAY_AUTH_TOKEN or ~/.ray/auth_token.

    Raises:
        UsageError: nothing answers, or the token is refused.
    """
    environment.apply_defaults()
    environment.use_ray_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client: Jobs = JobSubmissionClient(address)
        client.list_jobs()  # the version check above is answered without a token
    except AuthenticationError as error:
        raise UsageError(
            f"the cluster at {address} refuses the token; RAY_AUTH_TOKEN or ~/.ray/auth_token must hold the one "
            "that its nodes have"
        ) from error
    except (OSError, RuntimeError) as error:
        reason = one_line(error, limit=None)[:200]
        raise UsageError(
            f"no Ray job server at {address} ({reason}); open the tunnel with: ray dashboard cluster.yaml"
        ) from error
    return client


def find_running(jobs: Jobs, run: str) -> str:
    """Return the job that drives a run now, "" if none does."""
    for job in jobs.list_jobs():
        if (job.metadata or {}).get("run") == run and job.submission_id and str(job.status) not in ENDED:
            return str(job.submission_id)
    return ""


def entrypoint(arguments: Sequence[str], run_name: str, code: Mapping[str, Path] | None = None) -> str:
    """Return the shell command of the job: the same options without the local ones; a new run gets its name here.

    Args:
        code: {path in the job's folder: file} of the user's own files.
    """
    words = forwarded(arguments)
    for name, file in (code or {}).items():
        words = [word.replace(str(file), name) for word in words]
    options = parse(words)
    if run_name and not options.run_name:
        words += ["--run-name", run_name]
    if options.action in launch_options()["address"].goes_with:
        words += ["--address", "auto"]
    launcher = ["launch.py"] if (environment.ROOT / "launch.py").is_file() else ["-m", "tuner"]
    return shlex.join(["python", *launcher, *words])


def follow(
    jobs: Jobs,
    job: str,
    write: Callable[[str], object] = lambda text: show(text, end=""),
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> int:
    """Print the job's console until it ends and return its exit status; a lost connection is waited out.

    Raises:
        StudyFailed: the job could not be started, is not known any more, or the cluster stays away.
    """
    shown, away_since = 0, 0.0
    while True:
        try:
            info = jobs.get_job_info(job)
            text = jobs.get_job_logs(job)
        except (OSError, RuntimeError) as error:
            if "does not exist" in str(error):
                raise StudyFailed(
                    f"the cluster does not know job {job} any more: its head was restarted; "
                    "continue the run with --resume"
                ) from error
            if not away_since:
                away_since = time.monotonic()
                write("the cluster is out of reach; the study goes on there; trying again\n")
            elif time.monotonic() - away_since > patience_s:
                raise StudyFailed(f"the cluster was out of reach for {patience_s:.0f} s") from error
        else:
            away_since = 0.0
            if len(text) > shown:
                write(text[shown:])
                shown = len(text)
            if str(info.status) in ENDED:
                return exit_status(info)
        time.sleep(poll_s)


def exit_status(info: Any) -> int:
    """Return the exit status of an ended job.

    Raises:
        StudyFailed: its command was never started.
    """
    status = str(info.status)
    if status == "STOPPED":
        return STOPPED_CODE
    if info.driver_exit_code is None and status == "FAILED":
        raise StudyFailed(f"the job could not be run: {' '.join(str(info.message).split())[:300]}")
    return int(info.driver_exit_code or 0)


def detached(job: str, address: str, run: str) -> str:
    """Return what to type to come back to a job, or to end it."""
    common = "" if address == DEFAULT_ADDRESS else f" --address {address}"
    lines = [f"detached; job {job} goes on in the cluster"]
    if run:
        lines.append(f"  follow it again: {shlex.join(program())} --submit --resume {run}{common}")
    lines.append(f"  end it:          ray job stop {job} --address {address}")
    return "\n".join(lines)
