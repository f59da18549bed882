"""One launch of a run: signals, lease, Ray, tracker and console, opened around its stages and closed after them."""

import contextlib
import datetime
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import ray

from trainables.base.errors import InputError
from tuner.base import driver_report, environment
from tuner.base.errors import Interrupted, LeaseLost, StudyFailed, StudyHalted, UsageError, root_cause
from tuner.base.signals import Signals
from tuner.base.text import one_line, show
from tuner.base.urls import without_password
from tuner.commands.named_before import remember_address
from tuner.commands.tracking_uri import remember, tracking_uri
from tuner.console.progress import Console
from tuner.execution.ray_patch import check_ray_version
from tuner.execution.ray_processes import log_folder, needed_processes
from tuner.execution.ray_start import start_ray
from tuner.planning.command_line import resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, to_dict
from tuner.store.known_storages import storage_to_read
from tuner.store.lease import Lease
from tuner.store.retention import Retention
from tuner.store.run_folder import RunFolder, now
from tuner.tracking.connection import check_access
from tuner.tracking.mlflow_uris import ui_command
from tuner.tracking.moved_store import follow_move
from tuner.tracking.system_metrics import SystemMetrics
from tuner.tracking.tracker import Tracker

MLFLOW_WAIT_S, LAST_TRY_S = 30.0, 1.0


class LaunchOutcome(StrEnum):
    """How a launch ended; LEASE_LOST: the run belongs to another driver now."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    LEASE_LOST = "lease lost"


MLFLOW_STATUS = {
    LaunchOutcome.DONE: "FINISHED",
    LaunchOutcome.INTERRUPTED: "KILLED",
    LaunchOutcome.FAILED: "FAILED",
    LaunchOutcome.LEASE_LOST: "KILLED",
}


@dataclass
class Session:
    """What the stages of one launch share.

    Attributes:
        uri, storage_url: of MLflow and of the study's storage.
        facts: versions, commit, machine and every command of the run so far.
        timings: {what: seconds}, for `timings.json`.
        access_note: what is to be said of MLflow's access control, or "".
        failure: why the launch has failed, or "".
        waited_for_mlflow: whether the launch has waited for MLflow to take all events.
    """

    plan: Plan
    folder: RunFolder
    options: LaunchOptions
    signals: Signals
    lease: Lease
    console: Console
    tracker: Tracker
    retention: Retention
    uri: str
    storage_url: str
    facts: dict[str, str]
    timings: dict[str, float]
    access_note: str
    outcome: LaunchOutcome = LaunchOutcome.FAILED
    failure: str = ""
    waited_for_mlflow: bool = False

    @property
    def resumed(self) -> bool:
        return self.options.resume is not None

    @property
    def resume_command(self) -> str:
        return resume_command(self.plan.study, self.plan.run_name, self.options)

    def stage(self, name: str, detail: str = "") -> None:
        """Tell the console, and readers of the lease, that a stage begins."""
        self.lease.note(stage=name)
        self.console.stage(name, detail)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a timing."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.monotonic() - started

    @property
    def mlflow_patience_s(self) -> float:
        """Return how many seconds to wait for MLflow: many once, few again while it does not answer."""
        return LAST_TRY_S if self.waited_for_mlflow and self.tracker.failing else MLFLOW_WAIT_S

    def send_to_mlflow(self) -> bool:
        """Wait until MLflow has every event; return whether it has."""
        with self.timed("logging"):
            unsent = self.tracker.flush(self.mlflow_patience_s)
        self.waited_for_mlflow = True
        return not unsent

    def start_ray(self) -> None:
        """Start Ray here, or join the cluster that the options name."""
        _start_ray(self.options, self.signals)

    def carry_out(self, work: Callable[["Session"], int]) -> int:
        """Do the work of the launch, keep how it ended in `outcome`, and return the exit status.

        Raises:
            StudyFailed, StudyHalted, LeaseLost, UsageError, InputError: why it ended, on one line, and how to go on.
        """
        try:
            code = work(self)
            self.outcome = LaunchOutcome.DONE if code == 0 else LaunchOutcome.FAILED
            return code
        except Interrupted as stop:
            self.outcome = LaunchOutcome.INTERRUPTED
            self.console.interrupted(self.resume_command)
            return stop.exit_code
        except KeyboardInterrupt:  # the second Ctrl-C of an impatient user
            self.outcome = LaunchOutcome.INTERRUPTED
            raise
        except LeaseLost:
            self.outcome = LaunchOutcome.LEASE_LOST
            raise
        except StudyHalted as error:
            self.failure = str(error)
            raise StudyHalted(f"{error}, then continue with: {self.resume_command}") from error
        except StudyFailed as error:
            self.failure = error.reason
            raise
        except (UsageError, InputError) as error:
            self.failure = str(error)
            raise
        except Exception as error:
            cause = root_cause(error)
            self.failure = f"{type(cause).__name__}: {cause}"
            with contextlib.suppress(OSError):  # of a full disk; the line below says so
                self.folder.log("driver", traceback.format_exc())
            raise StudyHalted(
                f"{self.failure}; details in {self.folder.local}/logs/driver.log; "
                f"continue with: {self.resume_command}"
            ) from error

    def close(self) -> None:
        """Send what is left to MLflow, store how the launch ended, shut Ray down."""
        with self.timed("logging"):
            unsent = self.tracker.close(MLFLOW_STATUS[self.outcome], self.mlflow_patience_s)
        self.timings["total"] = environment.process_age_s()
        if self.outcome is not LaunchOutcome.LEASE_LOST:
            self._store_outcome()
        for problem in self.tracker.problems:
            self.console.note(f"MLflow: {problem}")
        if unsent:
            self.console.note(
                f"MLflow does not answer ({self.tracker.last_error[:120] or 'too slow'}): {unsent} events are kept "
                f"in {self.folder.local}/mlflow.spool; send them with: {self.resume_command}"
            )
        if self.lease.problem:
            self.console.note(self.lease.problem)
        self.console.close()
        driver_report.tell(ray={})  # its processes end now as they should
        if ray.is_initialized():
            ray.shutdown()

    def _store_outcome(self) -> None:
        reason = one_line(self.failure, limit=None) if self.outcome is LaunchOutcome.FAILED else ""
        try:
            self.folder.write_json("timings.json", self.timings)
            self.folder.update(ended={"state": str(self.outcome), "reason": reason, "at": now()})
        except OSError as error:
            self.console.note(f"the run folder could not be written to: {error}")


@contextlib.contextmanager
def open_session(plan: Plan, folder: RunFolder, options: LaunchOptions) -> Iterator[Session]:
    """Take the signals and the run's lease, store the launch in the run folder, and start tracker and console.

    Raises:
        UsageError: MLflow refuses, no cluster answers, another driver holds the run.
        Interrupted: a signal came while waiting for a driver that may be dead.
    """
    check_ray_version()
    signals = Signals()
    uri = tracking_uri(folder, options)
    storage_url = storage_to_read(folder, options.study_storage, None)
    facts = environment.describe(plan.command)
    timings = {"imports": environment.process_age_s()}
    with signals.installed():
        access_note = check_access(uri, plan.study)
        remember(uri)
        if options.address is not None:
            _start_ray(options, signals)  # before the run folder: without a cluster, nothing is written
            remember_address(options)
        folder.make()
        with folder.lease().held(signals, show) as lease:
            former_folder = folder.last_local(folder.entries()) if options.resume is not None else None
            # a report names every command that made it, the first and each resume
            facts["command"] = "\n".join(_store_launch(plan, folder, options, facts, uri))
            trials = sum(lane.trials for lane in plan.lanes)
            console = Console(plan, trials, log=folder.local / "console.log")
            tracker = Tracker(
                uri,
                plan.study,
                plan.run_name,
                plan.run_id,
                folder.local / "mlflow.spool",
                _tags(plan, facts),
                former_folder=former_folder,
            )
            if moved := follow_move(uri):
                console.note(moved)
            tracker.start()
            system = _system_metrics(folder, tracker)
            tracker.text("", folder.files.read("plan.json").decode(), "plan.json")
            session = Session(
                plan=plan,
                folder=folder,
                options=options,
                signals=signals,
                lease=lease,
                console=console,
                tracker=tracker,
                retention=Retention(folder.files),
                uri=uri,
                storage_url=storage_url,
                facts=facts,
                timings=timings,
                access_note=access_note,
            )
            try:
                yield session
            finally:
                system.stop()
                session.close()


def _start_ray(options: LaunchOptions, signals: Signals) -> None:
    start_ray(options.address)
    if processes := needed_processes():
        driver_report.tell(ray=processes, ray_logs=log_folder())
    signals.install()  # again: starting Ray puts its own handler on SIGTERM


def _store_launch(
    plan: Plan, folder: RunFolder, options: LaunchOptions, facts: dict[str, str], uri: str
) -> list[str]:
    """Create the run folder, or note the resume in it, and return the commands of all launches."""
    given = options.study_storage
    where = {  # what other commands need to find the run's storage and tracking; no passwords
        "study_storage": without_password(given) if given else None,
        "tracking_uri": without_password(uri),
        "ui_command": ui_command(uri),
    }
    if options.resume is None:
        folder.create(plan, facts, **where)
    else:
        commands = [*folder.entries().get("commands", []), plan.command]
        here = {"run": folder.name, "folder": folder.uri}  # it may have been renamed since the last launch
        folder.update(
            plan=to_dict(plan), finished=False, ended=None, restart=None, commands=commands, **here, **where
        )
    stored: list[str] = folder.entries()["commands"]
    return stored


def _tags(plan: Plan, facts: dict[str, str]) -> dict[str, str]:
    """Return the tags of the study's MLflow run."""
    return {
        "study": plan.study,
        "method": plan.method,
        "dataset": plan.dataset,
        "seed": str(plan.seed),
        "commit": facts["commit"],
        "content_hash": plan.content_hash,
        "sampler": plan.sampler,
        "scheduler": plan.scheduler,
    }


def _system_metrics(folder: RunFolder, tracker: Tracker) -> SystemMetrics:
    """Return the sampler of this machine's load, started unless MLflow's own variable forbids it."""
    created = datetime.datetime.fromisoformat(folder.entries()["created"])
    system = SystemMetrics(tracker, created.timestamp())
    if environment.variable("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0"):
        system.start()
    return system
