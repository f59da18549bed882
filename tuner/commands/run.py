"""One launch of one run: Ray, tracking, console and report around the controller; ends with an exit status."""

import contextlib
import datetime
import io
import itertools
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import ray

from trainables.base.errors import InputError
from trainables.ray.trainable import Assets
from tuner.analysis.results import StudyResult
from tuner.base import environment
from tuner.base.errors import Interrupted, LeaseLost, StudyFailed, StudyHalted, UsageError
from tuner.base.records import State, TrialRecord
from tuner.base.signals import Signals
from tuner.base.urls import redact, without_password
from tuner.console.progress import Console
from tuner.devices.allocation import GpuAllocation
from tuner.devices.resources import Resources
from tuner.execution.controller import Controller
from tuner.execution.ray_patch import check_ray_version
from tuner.execution.ray_start import start_ray
from tuner.planning import cost_history
from tuner.planning.command_line import resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, to_dict
from tuner.report.build import write_report
from tuner.search.budget import Usage
from tuner.store import warm_start
from tuner.store.lease import Lease
from tuner.store.retention import Retention
from tuner.store.run_folder import RunFolder, now
from tuner.tracking.connection import check_access
from tuner.tracking.listener import TrackingListener, describe_datasets
from tuner.tracking.mlflow_uris import choose_uri, ui_command, ui_links
from tuner.tracking.model_registry import log_winner
from tuner.tracking.system_metrics import SystemMetrics
from tuner.tracking.tracker import Tracker

COMPARED = 5  # runs behind the printed comparison link


def run_study(plan: Plan, folder: RunFolder, options: LaunchOptions) -> int:
    """Drive a run to its end and return the exit status (0, 1, 130, 143)."""
    return Service(plan, folder, options).run()


class Service:
    """Runs the stages that the plan names and says how it went."""

    def __init__(self, plan: Plan, folder: RunFolder, options: LaunchOptions) -> None:
        self.plan, self.folder, self.options = plan, folder, options
        self.resume = options.resume is not None
        self.signals = Signals()
        self.failure = ""  # why the run has failed, one line
        self.uri = choose_uri(options.tracking_uri, environment.variable("MLFLOW_TRACKING_URI"))
        self.storage_url = folder.storage_url(options.study_storage)
        self.facts = environment.describe(plan.command)
        self.timings: dict[str, float] = {"imports": environment.process_age_s()}

    def run(self) -> int:
        """Drive the run to its end and return the exit status (0, 1, 130, 143)."""
        check_ray_version()
        with self.signals.installed():
            self.away = check_access(self.uri, self.plan.study)
            if self.options.address is not None:
                self._start_ray()  # no cluster, no folder
            with self.folder.lease().held(self.signals, print) as lease:
                if self.resume:
                    self._note_resume()
                else:
                    self.folder.create(self.plan, self.facts, **self._where())
                # a report names every command that made it, the first and each resume
                self.facts["command"] = "\n".join(self.folder.read()[1]["commands"])
                return self._run(lease)

    def _note_resume(self) -> None:
        commands = [*self.folder.read()[1].get("commands", []), self.plan.command]
        self.folder.update(
            plan=to_dict(self.plan), finished=False, ended=None, commands=commands, **self._where()
        )

    def _where(self) -> dict[str, Any]:
        """Return what others need to find this run's storage and tracking; no passwords."""
        given = self.options.study_storage
        return {
            "study_storage": without_password(given) if given else None,
            "tracking_uri": redact(self.uri),
            "ui_command": ui_command(self.uri),
        }

    def _run(self, lease: Lease) -> int:
        console = Console(
            self.plan, sum(lane.trials for lane in self.plan.lanes), log=self.folder.local / "console.log"
        )
        tags = {
            "study": self.plan.study,
            "run": self.plan.run_name,
            "method": self.plan.method,
            "dataset": self.plan.dataset,
            "seed": str(self.plan.seed),
            "commit": self.facts["commit"],
            "content_hash": self.plan.content_hash,
            "sampler": self.plan.sampler,
            "scheduler": self.plan.scheduler,
        }
        tracker = Tracker(
            self.uri, self.plan.study, self.plan.run_name, self.folder.local / "mlflow.spool", tags
        )
        tracker.start()
        system = self._system_metrics(tracker)
        tracker.text("", self.folder.files.read("plan.json").decode(), "plan.json")
        ended = "failed"
        try:
            code = self._stages(console, tracker, lease)
            ended = "done" if code == 0 else "failed"
            return code
        except Interrupted as stop:
            ended = "interrupted"
            console.interrupted(self.resume_command())
            return stop.exit_code
        except LeaseLost:
            ended = ""
            raise
        except StudyHalted as error:
            self.failure = str(error)
            raise StudyFailed(f"{error}, then continue with: {self.resume_command()}") from error
        except (StudyFailed, UsageError, InputError) as error:
            self.failure = str(error)
            raise
        except Exception as error:
            cause = root_cause(error)
            self.failure = f"{type(cause).__name__}: {cause}"
            with contextlib.suppress(OSError):  # of a full disk; the line below says so
                self.folder.log("driver", traceback.format_exc())
            raise StudyFailed(
                f"{self.failure}; details in {self.folder.local}/logs/driver.log; "
                f"continue with: {self.resume_command()}"
            ) from error
        finally:
            system.stop()
            self._close(console, tracker, lease, ended)

    def _close(self, console: Console, tracker: Tracker, lease: Lease, ended: str) -> None:
        """Send what is left to MLflow, write down how the launch ended, give Ray back.

        Args:
            ended: "done", "interrupted" or "failed"; "" where the run belongs to another driver now.
        """
        closing = time.monotonic()
        unsent = tracker.close({"done": "FINISHED", "failed": "FAILED"}.get(ended, "KILLED"))
        self.timings["logging"] = self.timings.get("logging", 0.0) + time.monotonic() - closing
        self.timings["total"] = environment.process_age_s()
        try:
            if ended:
                self.folder.write_json("timings.json", self.timings)
                reason = redact(" ".join(self.failure.split())) if ended == "failed" else ""
                self.folder.update(ended={"state": ended, "reason": reason, "at": now()})
        except OSError as error:
            console.note(f"the run folder could not be written to: {error}")
        if unsent:
            console.note(
                f"MLflow does not answer ({tracker.last_error[:120] or 'too slow'}): {unsent} events are kept in "
                f"{self.folder.local}/mlflow.spool; send them with: {self.resume_command()}"
            )
        if lease.problem:
            console.note(lease.problem)
        console.close()
        self._end_ray()

    def _system_metrics(self, tracker: Tracker) -> SystemMetrics:
        """Return the sampler of this machine, started unless MLflow's own variable forbids it."""
        created = datetime.datetime.fromisoformat(self.folder.read()[1]["created"])
        system = SystemMetrics(tracker, created.timestamp())
        if environment.variable("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0"):
            system.start()
        return system

    def _stages(self, console: Console, tracker: Tracker, lease: Lease) -> int:
        def stage(name: str, detail: str = "") -> None:
            lease.note(stage=name)
            console.stage(name, detail)

        started = time.monotonic()
        stage("start", "Ray")
        self._start_ray()
        self.signals.check()
        self.timings["ray"] = time.monotonic() - started
        allocation = GpuAllocation(self.plan, self.folder, ray.nodes(), self.options.address is not None)
        resources = self._tell(allocation.initial(), lease, console)
        retention = Retention(self.folder.files)
        tracking = TrackingListener(tracker, self.plan, self.facts)
        for line in filter(None, [self.away, *warm_start.lines(self.plan)]):
            console.note(line)
        controller = Controller(
            self.plan,
            self.folder,
            self.storage_url,
            resources,
            (tracking, console, retention),
            self.signals,
            console.progress,
        )
        console.recall(controller.records())
        failure = ""
        try:
            stage("prepare", "data, pretrained classifier")
            assets = controller.prepare([self.plan.seed])
            tracking.datasets = describe_datasets(assets.benchmark, self.plan.data_dir)
            tracker.inputs("", tracking.datasets)
            if allocation.unmeasured:
                stage("probe", "how many trials share a GPU")
                controller.resources = self._tell(self._probe(allocation, assets, console), lease, console)
            if self.resume:
                tracking.add_missing(controller.records(), controller.evaluations.metrics())
            console.reference = controller.reference
            self._work(controller, stage)
        except StudyHalted:
            raise
        except StudyFailed as error:
            failure = str(error)
        self.timings |= controller.timings
        retention.sweep(controller.records(), controller.superseded(), controller.evaluations.metrics())
        result = self.result(controller, tracker)
        self.folder.write_json(cost_history.FILE, cost_history.to_json(self.plan, result.records))
        if "report" in self.plan.stages or failure:
            stage("report")
            result = self._report(result, controller, tracker, console)
        if not tracker.flush(0):
            retention.samples(controller.records())
        self.signals.check()  # so late only the report is left to a resume
        problems = (
            controller.problems,
            controller.remarks,
            result.test_data,
            retention.problems,
            tracker.problems,
        )
        for problem in itertools.chain(*problems):
            console.note(problem)
        console.answer(result, self.folder.local)
        if failure:
            console.note(failure)
            raise StudyFailed(failure)
        if controller.problems:
            self.failure = controller.problems[0]
            return 1
        running = any(record.state is State.RUNNING for record in controller.records())
        finished = "report" in self.plan.stages and not running
        self.folder.update(finished=finished, links=dict(result.links))
        return 0

    def _work(self, controller: Controller, stage: Callable[[str, str], None]) -> None:
        """Run the stages that this launch was asked for, up to the report."""
        stages = self.plan.stages
        stage("search" if "search" in stages else "resume", controller.resources.at_a_time)
        if "search" in stages:
            controller.run_search()
        if "evaluate" in stages:
            stage("evaluate", "test splits of the finished trials")
            controller.run_evaluate([r for s in controller.lanes.values() for r in s.records()])
        if "confirm" in stages:
            stage("confirm", f"{self.plan.confirm_seeds} fresh seeds, every arm")
            controller.run_confirm()

    # -- Ray -------------------------------------------------------------------------------------------

    def _start_ray(self) -> None:
        """Start Ray here or join a cluster; see `start_ray`."""
        start_ray(self.options.address)
        self.signals.install()  # again: starting Ray puts its own handler on SIGTERM

    def _tell(self, resources: Resources, lease: Lease, console: Console) -> Resources:
        self.timings["concurrency"] = resources.concurrency
        lease.note(concurrency=resources.concurrency)
        if resources.note:
            console.note(resources.note)
        return resources

    def _probe(self, allocation: GpuAllocation, assets: Assets, console: Console) -> Resources:
        started = time.monotonic()
        resources, notes = allocation.measure(assets, self.signals.check)
        for line in notes:
            console.note(line)
        self.timings["probe"] = time.monotonic() - started
        return resources

    def _end_ray(self) -> None:
        if ray.is_initialized():
            ray.shutdown()

    # -- results ---------------------------------------------------------------------------------------

    def result(self, controller: Controller, tracker: Tracker) -> StudyResult:
        """Gather what is known into one value."""
        best = controller.best()
        records = controller.records()
        return StudyResult(
            plan=self.plan,
            records=records,
            tests=controller.evaluations.metrics(),
            remarks=controller.evaluations.remarks(),
            best=best,
            feasible=frozenset(r.key for r in records if controller.feasible(r)),
            pareto=controller.pareto(),
            reference=controller.reference,
            arms=controller.arm_results(),
            scores=controller.evaluations.scores(best.key) if best else {},
            strip=None,
            importances=controller.importances(),
            timings=dict(self.timings),
            environment=self.facts,
            links=self._links(controller, tracker),
            ui_command=ui_command(self.uri),
            problems=tuple(controller.problems),
            test_data=tuple(self.folder.read()[1].get("test_data", [])),
        )

    def _links(self, controller: Controller, tracker: Tracker) -> dict[str, str]:
        started = time.monotonic()
        tracker.flush()
        self.timings["logging"] = self.timings.get("logging", 0.0) + time.monotonic() - started
        experiment, parent = tracker.experiment_id(), tracker.parent_id()
        if experiment is None or parent is None:
            return {}
        ranked = sorted(
            (r for r in controller.search.records() if r.history and r.state is not State.FAIL),
            key=lambda r: (r.state is State.COMPLETE, controller.point(r.last)),
            reverse=True,
        )
        ids = [tracker.child_id(r.key) for r in ranked[:COMPARED]]
        objective = self.plan.objectives[0]
        return ui_links(
            self.uri,
            experiment,
            [i for i in ids if i],
            parent,
            objective=objective.metric,
            largest_first=objective.direction == "maximize",
        )

    def _report(
        self, result: StudyResult, controller: Controller, tracker: Tracker, console: Console
    ) -> StudyResult:
        started = time.monotonic()
        if result.best is not None:
            result = replace(result, strip=controller.strip(result.best))
        self.signals.check()
        paths = write_report(result, self.folder.local)
        self.timings["report"] = time.monotonic() - started
        self.signals.check()
        used = {f"used/{name}": float(value) for name, value in asdict(Usage.of(result.records)).items()}
        step = len(result.records)  # a run that is extended has more trials, and its new values count
        tracker.metrics("", step, used)
        for path in paths:
            tracker.artifact("", path)
            if self.folder.remote:
                self.folder.files.write(path.name, path.read_bytes())
        if result.best is not None:
            best = result.best
            tracker.tag("", {"best_trial": best.label})
            headline = {f"best/{m}": v for m, v in best.last.items() if m.startswith("val/")}
            for metric in self.plan.headline:
                for arm in result.arms:
                    interval = arm.seed_interval(metric)
                    if interval.n:
                        headline[f"{arm.name}/{metric}"] = interval.mean
            tracker.metrics("", step, headline)
            self._log_model(best, controller, tracker, console)
        return result

    def _log_model(
        self, best: TrialRecord, controller: Controller, tracker: Tracker, console: Console
    ) -> None:
        waiting = tracker.flush()
        run_id = tracker.child_id(best.key)
        if run_id is None or waiting:
            return  # MLflow does not answer: said once, at the end, with the command that makes up for it
        network, example = controller.winner_network(best)
        plan = self.plan
        tags = {"run": plan.run_name, "trial": best.label, "method": best.method, "dataset": plan.dataset}
        tags |= {"commit": self.facts["commit"], "content_hash": plan.content_hash}
        with contextlib.redirect_stderr(io.StringIO()):  # "Successfully registered model ..." among our lines
            problem = log_winner(self.uri, run_id, network, example, self.plan.study, tags)
        if problem:
            console.note(problem)

    def resume_command(self) -> str:
        """Return the exact command that continues this run."""
        return resume_command(self.plan.study, self.plan.run_name, self.options)


def root_cause(error: BaseException) -> BaseException:
    """Return the first exception of a chain: what a database driver said, not what three layers made of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
