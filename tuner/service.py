"""One launch of one run: Ray, tracking, console and report around the controller; ends with an exit status."""

import contextlib
import io
import json
import logging
import shlex
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from trainables.errors import InputError
from tuner import environment
from tuner.console import Console
from tuner.controller import Controller
from tuner.errors import Interrupted, StudyFailed, UsageError
from tuner.plan import Plan, to_dict
from tuner.records import State, TrialRecord
from tuner.report import write_report
from tuner.resources import Resources, settle
from tuner.results import StudyResult
from tuner.run_folder import RunFolder
from tuner.signals import Signals
from tuner.tracking import DEFAULT_URI, Tracker, log_winner, ui_command, ui_links

COMPARED = 5  # runs behind the printed comparison link


class TrackingListener:
    """Writes what happens to trials into MLflow."""

    def __init__(self, tracker: Tracker, plan: Plan, facts: Mapping[str, str]) -> None:
        self.tracker, self.plan, self.commit = tracker, plan, facts["commit"]
        self.searched = {key for lane in plan.lanes for key in lane.space}

    def started(self, record: TrialRecord) -> None:
        params = {k: v for k, v in record.configuration.items() if k in self.searched}
        tags = {
            "trial": record.label,
            "role": record.role.value,
            "state": State.RUNNING.value,
            "study": self.plan.study,
            "method": record.method,
            "dataset": self.plan.dataset,
            "seed": str(record.seed),
            "commit": self.commit,
            "lane": record.lane,
        }
        if record.arm:
            tags |= {"arm": record.arm, "seed_index": str(record.seed_index)}
        name = f"{record.arm}-{record.seed_index}" if record.arm else record.key
        self.tracker.child(record.key, name=name, params=params, tags=tags)
        if record.attempt == 1:
            self.tracker.text(
                record.key, json.dumps(dict(record.configuration), indent=2), "configuration.json"
            )

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        self.tracker.metrics(record.key, epoch, record.history[epoch].metrics)

    def ended(self, record: TrialRecord) -> None:
        self.tracker.close_child(record.key, record.state.value, record.reason)

    def left(self, key: str, path: Path) -> None:
        self.tracker.artifact(key, path, "files")

    def evaluated(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        self.tracker.final(record.key, metrics)


class Service:
    """Runs the stages that the plan names and says how it went."""

    def __init__(
        self, plan: Plan, folder: RunFolder, options: Any, arguments: list[str], resume: bool
    ) -> None:
        self.plan, self.folder, self.options, self.resume = plan, folder, options, resume
        self.arguments = arguments
        self.uri = options.tracking_uri or environment.variable("MLFLOW_TRACKING_URI") or DEFAULT_URI
        self.storage_url = folder.storage_url(options.study_storage)
        self.facts = environment.describe(plan.command)
        self.timings: dict[str, float] = {"imports": environment.process_age_s()}

    def run(self) -> int:
        """Drive the run to its end and return the exit status (0, 1, 130, 143)."""
        if self.options.address is not None:
            self._start_ray()  # no cluster, no folder
        with self.folder.lease():
            if self.resume:
                self._note_resume()
            else:
                self.folder.create(self.plan, self.facts)
            # a report names every command that made it, the first and each resume
            self.facts["command"] = "\n".join(self.folder.read()[1]["commands"])
            return self._run()

    def _note_resume(self) -> None:
        commands = [*self.folder.read()[1].get("commands", []), self.plan.command]
        self.folder.update(plan=to_dict(self.plan), finished=False, commands=commands)

    def _run(self) -> int:
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
        }
        tracker = Tracker(
            self.uri, self.plan.study, self.plan.run_name, self.folder.local / "mlflow.spool", tags
        )
        tracker.start()
        tracker.text("", self.folder.files.read("plan.json").decode(), "plan.json")
        signals = Signals()
        status = "FAILED"
        try:
            with signals.installed():
                code = self._stages(console, tracker, signals)
            status = "FINISHED" if code == 0 else "FAILED"
            return code
        except Interrupted as stop:
            status = "KILLED"
            console.interrupted(self.resume_command())
            return stop.exit_code
        except (StudyFailed, UsageError, InputError):
            raise
        except Exception as error:
            self.folder.log("driver", traceback.format_exc())
            raise StudyFailed(
                f"{type(error).__name__}: {error}; details in {self.folder.local}/logs/driver.log; "
                f"continue with: {self.resume_command()}"
            ) from error
        finally:
            closing = time.monotonic()
            unsent = tracker.close(status)
            self.timings["logging"] = self.timings.get("logging", 0.0) + time.monotonic() - closing
            self.timings["total"] = environment.process_age_s()
            self.folder.write_json("timings.json", self.timings)
            if unsent:
                console.note(f"MLflow was away: {unsent} events are kept and sent at the next --resume")
            console.close()
            self._end_ray()

    def _stages(self, console: Console, tracker: Tracker, signals: Signals) -> int:
        started = time.monotonic()
        console.stage("start", "Ray, data, pretrained classifier")
        resources = self._start_ray()
        signals.install()  # again: starting Ray puts its own handler on SIGTERM
        self.timings["ray"] = time.monotonic() - started
        self.timings["concurrency"] = resources.concurrency
        if resources.note:
            console.note(resources.note)
        listeners = (TrackingListener(tracker, self.plan, self.facts), console)
        controller = Controller(
            self.plan, self.folder, self.storage_url, resources, listeners, signals, console.progress
        )
        console.recall(controller.records())
        failure = ""
        try:
            controller.prepare([self.plan.seed])
            console.reference = controller.reference
            at_once = f"{resources.concurrency} at a time"
            console.stage("search" if "search" in self.plan.stages else "resume", at_once)
            if "search" in self.plan.stages:
                controller.run_search()
            if "evaluate" in self.plan.stages:
                console.stage("evaluate", "test splits of the finished trials")
                controller.run_evaluate([r for s in controller.lanes.values() for r in s.records()])
            if "confirm" in self.plan.stages:
                console.stage("confirm", f"{self.plan.confirm_seeds} fresh seeds, every arm")
                controller.run_confirm()
        except StudyFailed as error:
            failure = str(error)
        self.timings |= controller.timings
        result = self.result(controller, tracker)
        if "report" in self.plan.stages or failure:
            console.stage("report")
            result = self._report(result, controller, tracker, console)
        for problem in [*controller.problems, *controller.remarks, *tracker.problems]:
            console.note(problem)
        console.answer(result, self.folder.local)
        if failure:
            console.note(failure)
            raise StudyFailed(failure)
        if controller.problems:
            return 1
        running = any(record.state is State.RUNNING for record in controller.records())
        self.folder.update(finished="report" in self.plan.stages and not running)
        return 0

    # -- Ray -------------------------------------------------------------------------------------------

    def _start_ray(self) -> Resources:
        """Start Ray here or join a cluster, and settle what a trial gets.

        Raises:
            UsageError: no cluster answers at the address.
        """
        try:
            ray.init(
                address=self.options.address,
                include_dashboard=False if self.options.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"no Ray cluster at --address {self.options.address}: {reason}") from error
        return settle(
            ray.cluster_resources(), self.plan.cpus_per_trial, self.plan.gpus_per_trial, self.plan.concurrency
        )

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
            tests=controller.tests(),
            best=best,
            feasible=frozenset(r.key for r in records if controller.feasible(r)),
            pareto=controller.pareto(),
            reference=controller.reference,
            arms=controller.arm_results(),
            scores=controller.scores(best.key) if best else {},
            strip=None,
            importances=controller.importances(),
            timings=dict(self.timings),
            environment=self.facts,
            links=self._links(controller, tracker),
            ui_command=ui_command(self.uri),
            problems=tuple(controller.problems),
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
        paths = write_report(result, self.folder.local)
        self.timings["report"] = time.monotonic() - started
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
                    found = arm.interval(metric)
                    if found.n:
                        headline[f"{arm.name}/{metric}"] = found.mean
            tracker.final("", headline)
            self._log_model(best, controller, tracker, console)
        return result

    def _log_model(
        self, best: TrialRecord, controller: Controller, tracker: Tracker, console: Console
    ) -> None:
        tracker.flush()
        run_id = tracker.child_id(best.key)
        if run_id is None:
            console.note("the winner's model was not logged: MLflow is away")
            return
        network, example = controller.winner_network(best)
        with contextlib.redirect_stderr(io.StringIO()):  # "Successfully registered model ..." among our lines
            problem = log_winner(self.uri, run_id, network, example, self.plan.study)
        if problem:
            console.note(problem)

    def resume_command(self) -> str:
        """Return the exact command that continues this run."""
        words = ["python", "launch.py", "--study", self.plan.study, "--resume", self.plan.run_name]
        for option, value, default in (
            ("--storage", self.options.storage, "runs"),
            ("--study-storage", self.options.study_storage, None),
            ("--tracking-uri", self.options.tracking_uri, None),
            ("--data-dir", self.options.data_dir, None),
            ("--address", self.options.address, None),
        ):
            if value != default and value is not None:
                words += [option, str(value)]
        return shlex.join(words)
