"""Writes the events of a study to MLflow runs, in order; writing an event twice changes nothing.

Imports no mlflow: `tuner.tracking.connection` hands over the client.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.base.text import one_line
from tuner.base.urls import redact
from tuner.tracking.connection import artifact_folder, user_name
from tuner.tracking.problems import Problems
from tuner.tracking.spool import Event

_DUBIOUS = ("BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")  # also the answers of a store that is failing


@dataclass
class _StoredRun:
    """One MLflow run as the store has it: its status, its end (0 if it has none) and the last step of each metric."""

    id: str
    status: str
    end_ms: int
    steps: dict[str, int]


@dataclass
class _Pending:
    """Values not yet written to one run. `steps` are merged into the run's own once they are written."""

    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


class MlflowWriter:
    """Writes to MLflow; used by the delivery thread alone, except for looking up ids.

    Args:
        uri, experiment, run, run_id: as for `tuner.tracking.tracker.Tracker`.
        open_store: called with the URI, returns MLflow's client and its module of entities.
        problems: gets a line for everything that is left out for good or taken out of the trash.
        folder: of the run; no file elsewhere is uploaded.
        former_folder: where the run was before it was moved; earlier versions stored absolute paths.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run: str,
        run_id: str,
        open_store: Callable[[str], tuple[Any, Any]],
        problems: Problems,
        folder: Path,
        former_folder: Path | None = None,
    ) -> None:
        self._folder, self._former_folder = folder, former_folder or folder
        self._uri, self._experiment, self._run, self._run_id = uri, experiment, run, run_id
        self._query = f"tags.`run_id` = {_quoted(run_id)}"
        self._old_query = f"tags.`run` = {_quoted(run_id)}"  # of earlier versions, whose id is their name
        self._open_store, self._problem = open_store, problems.add
        self._client: Any = None
        self._entities: Any = None
        self._connected = False
        self._tries = 0  # failures since the last batch that was delivered
        self._lost_requests = False  # whether the server may have executed requests that it did not confirm
        self._pending: dict[str, _Pending] = {}
        self._refused: set[str] = (
            set()
        )  # metric names; the search for the refused row of a batch is done once for each
        self.experiment_id = ""
        self.runs: dict[str, _StoredRun] = {}

    def connect(self) -> bool:
        """Find or create the study's run and find its children; return whether it had to be created."""
        if self._connected:
            return False
        if self._client is None:
            self._client, self._entities = self._open_store(self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            self.experiment_id = self._client.create_experiment(self._experiment, artifact_folder(self._uri))
        else:
            self.experiment_id = found.experiment_id
            if found.lifecycle_stage != "active":
                self._client.restore_experiment(self.experiment_id)
                self._problem(
                    f"study: experiment {self._experiment} was in MLflow's trash; it is restored with all its runs"
                )
        known = self._search(self._query) or [
            run for run in self._search(self._old_query) if "run_id" not in run.data.tags
        ]
        if known:
            parent = self._single_run("", known)
        else:
            tags = {"run": self._run, "run_id": self._run_id}
            parent = self._create("", self._run, tags, None, self._query)
        self.runs = {"": _stored_run(parent)} | self._children(parent.info.run_id)
        self._connected = True
        return not known

    def _children(self, parent_id: str) -> dict[str, _StoredRun]:
        """Return the stored runs of the trials by their keys."""
        found: dict[str, list[Any]] = {}
        for child in self._search(_children_of(parent_id)):
            found.setdefault(child.data.tags.get("key", child.info.run_id), []).append(child)
        return {key: _stored_run(self._single_run(key, runs)) for key, runs in found.items()}

    def _single_run(self, key: str, runs: Sequence[Any]) -> Any:
        """Return the run that holds the trial, restored if it is in the trash, and delete duplicates that hold nothing.

        Creating a run is not idempotent: a request whose answer was lost, or that a slow server executed after the
        client had given up, creates a second run.
        """
        active = [run for run in runs if run.info.lifecycle_stage == "active"]
        if not active:
            kept = self._fullest(key, runs)
            self._client.restore_run(kept.info.run_id)
            self._problem(f"{key or 'study'}: MLflow run {kept.info.run_id} was in the trash; it is restored")
            return kept
        kept = self._fullest(key, active)
        for duplicate in active:
            if duplicate is not kept and self._held(key, duplicate):
                self._problem(
                    f"{key or 'study'}: a second MLflow run, {duplicate.info.run_id}, is left as it is"
                )
            elif duplicate is not kept:
                self._client.delete_run(duplicate.info.run_id)
        return kept

    def _fullest(self, key: str, runs: Sequence[Any]) -> Any:
        """Return the run in use, or else the one that holds most."""
        if len(runs) == 1:
            return runs[0]
        in_use = self.runs[key].id if key in self.runs else ""
        return max(
            runs, key=lambda run: (run.info.run_id == in_use, self._held(key, run), len(run.data.tags))
        )

    def _held(self, key: str, run: Any) -> int:
        """Return how many metrics and params a run holds, and of a study's run how many trials."""
        held = len(run.data.metrics) + len(run.data.params)
        return held if key else held + len(self._search(_children_of(run.info.run_id)))

    def disconnect(self) -> None:
        """Forget what is known of the store after a failure; `connect` reads it again."""
        self._connected = False
        self._pending = {}
        self._tries += 1
        self._lost_requests = self._lost_requests or self._uri.startswith("http")

    def _undo_late_writes(self) -> None:
        """Undo what a slow server executed late: duplicate runs, and runs set back to an earlier status."""
        self._single_run("", self._search(self._query))
        for key, late in self._children(self.runs[""].id).items():
            run = self.runs.setdefault(key, late)
            if late.id == run.id and late.status != run.status:
                self._client.update_run(run.id, status=run.status)

    def send(self, events: Sequence[Event]) -> None:
        """Write events in order; raises if the store fails, and may then be given them again."""
        for event in events:
            try:
                self._apply(event)
            except Exception as error:
                if not self._is_permanent(error):
                    raise
                reason = one_line(error)
                self._problem(f"{event.get('key') or 'study'}: {event.get('op')} left out: {reason}", reason)
        self._flush_all()
        self._tries = 0

    def _apply(self, event: Event) -> None:
        op, key = event["op"], event["key"]
        run = self.runs.get(key) or self._new_child(event)
        if op not in OPERATIONS:
            raise ValueError(f"there is no operation of that name; known: {', '.join(OPERATIONS)}")
        pending = self._pending.setdefault(key, _Pending())
        for name, value in event.get("params", {}).items():
            if pending.params.setdefault(name, value) != value:
                self._problem(
                    f"{key or 'study'}: params {name} stays {pending.params[name]!r}, not {value!r}"
                )
        pending.tags.update(event.get("tags", {}))
        OPERATIONS[op](self, run, event)

    def _nothing_more(self, run: _StoredRun, event: Event) -> None:
        """Leave it at the event's parameters and tags."""

    def _start(self, run: _StoredRun, event: Event) -> None:
        self._set_status(run, "RUNNING", 0)

    def _close(self, run: _StoredRun, event: Event) -> None:
        self._flush(event["key"])
        if not event["key"] and self._lost_requests:
            self._undo_late_writes()
        self._set_status(run, event["status"], event["t"])

    def _settle(self, run: _StoredRun, event: Event) -> None:
        """Give every run of a trial that has ended the status that the event says, and the end that it had."""
        for key, status in event["statuses"].items():
            if ended := self.runs.get(key):
                self._set_status(ended, status, ended.end_ms or event["t"])

    def _upload_after_metrics(self, run: _StoredRun, event: Event) -> None:
        """Upload a text or a file; metrics do not wait for it, as it may be slow or fail."""
        self._flush_all()
        self._upload(run, event)

    def _describe(self, run: _StoredRun, event: Event) -> None:
        """Store the data sets and texts of a new run."""
        if event.get("inputs"):
            self._log_inputs(run, event["inputs"])
        for name, text in event.get("texts", {}).items():
            self._upload(run, {"op": "text", "key": event["key"], "name": name, "text": text})

    def _stage(self, run: _StoredRun, event: Event) -> None:
        """Queue the values the run does not have yet."""
        pending = self._pending[event["key"]]
        known = {**run.steps, **pending.steps}
        final = event["op"] == "final"
        reached = (at for name, at in known.items() if not name.startswith("system/"))
        step = max(reached, default=0) if final else event["step"]
        for name, value in event["v"].items():
            if name in self._refused or (name in known and (final or step <= known[name])):
                continue
            if math.isinf(value):
                self._problem(f"{event['key'] or 'study'}: {name} is {value} in places, left out there")
                continue
            pending.metrics.append(self._entities.Metric(name, value, event["t"], step))
            pending.steps[name] = step
        if pending.metrics and not final and event["key"]:
            self._set_status(run, "RUNNING", 0)

    def _set_status(self, run: _StoredRun, status: str, end_ms: int) -> None:
        if run.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run.id, status=status)
        else:
            self._client.set_terminated(run.id, status, end_ms)
        run.status = status

    def _flush_all(self) -> None:
        for key in list(self._pending):
            self._flush(key)

    def _flush(self, key: str) -> None:
        """Write the pending values of one run, within MLflow's limits on a batch."""
        pending, run = self._pending.pop(key), self.runs[key]
        rows: dict[str, list[Any]] = {
            "metrics": pending.metrics,
            "params": [self._entities.Param(*item) for item in pending.params.items()],
            "tags": [self._entities.RunTag(*item) for item in pending.tags.items()],
        }
        if not self._write_at_once(run, rows):
            for kind, all_rows in rows.items():
                size = 900 if kind == "metrics" else 100
                for begin in range(0, len(all_rows), size):
                    self._write(key, run, kind, all_rows[begin : begin + size])
        run.steps.update(pending.steps)

    def _write_at_once(self, run: _StoredRun, rows: dict[str, list[Any]]) -> bool:
        """Write everything in one request if it fits into one; return whether it is done."""
        if len(rows["metrics"]) > 800 or len(rows["params"]) > 100 or len(rows["tags"]) > 100:
            return False
        try:
            if any(rows.values()):
                self._client.log_batch(run.id, **rows)
        except Exception as error:
            if not self._is_permanent(error):
                raise
            return False
        return True

    def _write(self, key: str, run: _StoredRun, kind: str, rows: list[Any]) -> None:
        """Write rows; of a refused batch find the refused rows by halving it."""
        try:
            self._client.log_batch(run.id, **{kind: rows})
        except Exception as error:
            if not self._is_permanent(error):
                raise
            if len(rows) > 1 and not _is_gone(error):
                self._write(key, run, kind, rows[: len(rows) // 2])
                self._write(key, run, kind, rows[len(rows) // 2 :])
                return
            if kind == "metrics" and not _is_gone(error):
                self._refused.add(rows[0].key)
            names = ", ".join(row.key for row in rows[:3])
            self._problem(f"{key or 'study'}: {kind} {names} refused: {one_line(error)}")

    def _upload(self, run: _StoredRun, event: Event) -> None:
        """Upload an artifact; one that keeps failing while the store answers is given up."""
        try:
            if event["op"] == "text":
                self._client.log_text(run.id, event["text"], event["name"])
            else:
                self._upload_file(run, event)
        except Exception as error:
            if self._tries < 5 and not self._is_permanent(error):
                raise
            self._client.get_experiment(self.experiment_id)  # raises while the store is away
            name = event.get("name") or event["path"]
            self._problem(
                f"{event['key'] or 'study'}: artifact {name} given up: {one_line(error)}", "given up"
            )

    def _upload_file(self, run: _StoredRun, event: Event) -> None:
        """Upload a file of the run folder: events are read from a file, and whoever wrote it may name any path."""
        name = Path(event["path"])
        if name.is_relative_to(self._former_folder):
            name = name.relative_to(self._former_folder)
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            what = "is not in the run folder, so it is not uploaded"
            self._problem(f"{event['key'] or 'study'}: {event['path']} {what}", what)
        elif path.is_file():
            self._client.log_artifact(run.id, str(path), event["folder"] or None)
        else:
            self._problem(f"{event['key'] or 'study'}: no file {event['path']} to upload", "no file")

    def _is_permanent(self, error: Exception) -> bool:
        """Whether trying again cannot help; an ambiguous answer counts only if it comes again after reconnecting."""
        if isinstance(error, OSError):
            return False
        if isinstance(error, (TypeError, ValueError, KeyError, AttributeError)):
            return True
        code = getattr(error, "error_code", "")
        if code in _DUBIOUS or _is_gone(error):
            return self._tries >= 3
        return code == "INVALID_PARAMETER_VALUE"

    def _new_child(self, event: Event) -> _StoredRun:
        key, parent = event["key"], self.runs[""].id
        tags = {"key": key, "mlflow.parentRunId": parent}
        query = f"{_children_of(parent)} and tags.`key` = {_quoted(key)}"
        name = event["name"] if event["op"] == "child" else key
        run = _stored_run(self._create(key, name, tags, event["t"], query))
        self.runs[key] = run
        return run

    def _create(self, key: str, name: str, tags: dict[str, str], start_ms: int | None, query: str) -> Any:
        """Create a run; `query` finds it."""
        tags = tags | {"mlflow.user": user_name(), "mlflow.source.name": Path(sys.argv[0]).name or "python"}
        tags["mlflow.source.type"] = "LOCAL"
        run = self._client.create_run(self.experiment_id, start_ms, tags, redact(name)[:250])
        if not self._uri.startswith("http"):
            return run
        # MLflow's client repeats a request whose answer was lost.
        return self._single_run(key, self._search(query) or [run])

    def _log_inputs(self, run: _StoredRun, inputs: Sequence[dict[str, str]]) -> None:
        """Log the data sets that a run reads; MLflow stores each once, however often it is logged."""
        rows = []
        for entry in inputs:
            dataset = self._entities.Dataset(**{k: v for k, v in entry.items() if k != "context"})
            tag = self._entities.InputTag("mlflow.data.context", entry["context"])
            rows.append(self._entities.DatasetInput(dataset, [tag]))
        self._client.log_inputs(run.id, rows)

    def _search(self, query: str) -> list[Any]:
        """Return the matching runs, those in the trash too, oldest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                query,
                run_view_type=self._entities.ViewType.ALL,
                max_results=500,
                order_by=["start_time ASC"],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


#: {operation of events: what carries it out}; `Tracker` accepts no other
OPERATIONS: dict[str, Callable[[MlflowWriter, _StoredRun, Event], None]] = {
    "start": MlflowWriter._start,
    "child": MlflowWriter._describe,
    "inputs": MlflowWriter._describe,
    "tag": MlflowWriter._nothing_more,
    "metrics": MlflowWriter._stage,
    "final": MlflowWriter._stage,
    "text": MlflowWriter._upload_after_metrics,
    "artifact": MlflowWriter._upload_after_metrics,
    "close": MlflowWriter._close,
    "settle": MlflowWriter._settle,
}


def _stored_run(run: Any) -> _StoredRun:
    """Return a stored run. Only the protobuf message has the step of a metric's last value."""
    steps = {metric.key: int(metric.step) for metric in run.data.to_proto().metrics}
    return _StoredRun(run.info.run_id, run.info.status, run.info.end_time or 0, steps)


def _is_gone(error: Exception) -> bool:
    """Whether someone deleted the run."""
    return "must be in the 'active' state" in str(error)


def _children_of(run_id: str) -> str:
    """Return the query for the runs below another."""
    return f"tags.`mlflow.parentRunId` = '{run_id}'"


def _quoted(text: str) -> str:
    """Return `text` as a string of MLflow's search language, which has no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"
