"""Writes the events of a study to MLflow runs, in order; writing an event twice changes nothing.

Imports no mlflow: `tuner.tracking.connection` hands over the client.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.base.text import one_line
from tuner.tracking.notes import NOTE, may_replace
from tuner.tracking.problems import Problems
from tuner.tracking.spool import Event
from tuner.tracking.study_runs import StoredRun, StudyRuns
from tuner.tracking.views import view_tag

_DUBIOUS = ("BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")  # also the answers of a store that is failing


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

    Attributes:
        views: names of the shared views that the store has taken.
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
        self._uri = uri
        self._open_store, self._problem = open_store, problems.add
        self._study = StudyRuns(uri, experiment, run, run_id, problems.add)
        self._connected = False
        self._tries = 0  # failures since the last batch that was delivered
        self._lost_requests = False  # whether the server may have executed requests that it did not confirm
        self._pending: dict[str, _Pending] = {}
        # metric names; the search for the refused row of a batch is done once for each
        self._refused: set[str] = set()
        self.views: set[str] = set()

    @property
    def experiment_id(self) -> str:
        """Return the experiment's id, "" before the store has answered."""
        return self._study.experiment_id

    @property
    def runs(self) -> dict[str, StoredRun]:
        """Return {key: run} of what is known to be in the store."""
        return self._study.runs

    def connect(self) -> bool:
        """Find or create the study's run and find its children; return whether it had to be created."""
        if self._connected:
            return False
        if self._study.client is None:
            self._study.client, self._study.entities = self._open_store(self._uri)
        created = self._study.find()
        self._connected = True
        return created

    def disconnect(self) -> None:
        """Forget what is known of the store after a failure; `connect` reads it again."""
        self._connected = False
        self._pending = {}
        self._tries += 1
        self._lost_requests = self._lost_requests or self._uri.startswith("http")

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
        run = self._study.of(event)
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

    def _nothing_more(self, run: StoredRun, event: Event) -> None:
        """Leave it at the event's parameters and tags."""

    def _start(self, run: StoredRun, event: Event) -> None:
        self._set_status(run, "RUNNING", 0)

    def _close(self, run: StoredRun, event: Event) -> None:
        self._flush(event["key"])
        if not event["key"] and self._lost_requests:
            self._study.undo_late_writes()
        self._set_status(run, event["status"], event["t"])

    def _settle(self, run: StoredRun, event: Event) -> None:
        """Give every run of a trial that has ended the status that the event says, and the end that it had."""
        for key, status in event["statuses"].items():
            if ended := self.runs.get(key):
                self._set_status(ended, status, ended.end_ms or event["t"])

    def _upload_after_metrics(self, run: StoredRun, event: Event) -> None:
        """Upload a text or a file; metrics do not wait for it, as it may be slow or fail."""
        self._flush_all()
        self._upload(run, event)

    def _keep_view(self, run: StoredRun, event: Event) -> None:
        """Store a shared view of the runs table."""
        name, value = view_tag(event["name"], event["view"], run.id, event["title"], event["t"])
        self._study.client.set_experiment_tag(self.experiment_id, name, value)
        self.views.add(event["name"])

    def _tag_experiment(self, run: StoredRun, event: Event) -> None:
        for name, value in event["experiment_tags"].items():
            self._study.client.set_experiment_tag(self.experiment_id, name, value)

    def _keep_note(self, run: StoredRun, event: Event) -> None:
        """Show a text on the page of the experiment or the run, unless what is there may not be replaced."""
        client, of_experiment = self._study.client, event["on"] == "experiment"
        tags = (
            client.get_experiment(self.experiment_id).tags
            if of_experiment
            else client.get_run(run.id).data.tags
        )
        if not may_replace(tags.get(NOTE, ""), first=event["first"]):
            return
        text = self._filled(event["text"])
        if of_experiment:
            client.set_experiment_tag(self.experiment_id, NOTE, text)
        else:
            client.set_tag(run.id, NOTE, text)

    def _filled(self, text: str) -> str:
        """Return a note with the ids in their places; the study's own run stands for one that there is not."""
        known = {f"run:{key}": run.id for key, run in self.runs.items()}
        known |= {"experiment": self.experiment_id, "parent": self.runs[""].id}
        return re.sub(
            r"\$\((experiment|parent|run:[^()\s]*)\)",
            lambda found: known.get(found[1], known["parent"]),
            text,
        )

    def _describe(self, run: StoredRun, event: Event) -> None:
        """Store the data sets and texts of a new run."""
        if event.get("inputs"):
            self._log_inputs(run, event["inputs"])
        for name, text in event.get("texts", {}).items():
            self._upload(run, {"op": "text", "key": event["key"], "name": name, "text": text})

    def _stage(self, run: StoredRun, event: Event) -> None:
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
            pending.metrics.append(self._study.entities.Metric(name, value, event["t"], step))
            pending.steps[name] = step
        if pending.metrics and not final and event["key"]:
            self._set_status(run, "RUNNING", 0)

    def _set_status(self, run: StoredRun, status: str, end_ms: int) -> None:
        if run.status == status:
            return
        if status == "RUNNING":
            self._study.client.update_run(run.id, status=status)
        else:
            self._study.client.set_terminated(run.id, status, end_ms)
        run.status = status

    def _flush_all(self) -> None:
        for key in list(self._pending):
            self._flush(key)

    def _flush(self, key: str) -> None:
        """Write the pending values of one run, within MLflow's limits on a batch."""
        pending, run = self._pending.pop(key), self.runs[key]
        rows: dict[str, list[Any]] = {
            "metrics": pending.metrics,
            "params": [self._study.entities.Param(*item) for item in pending.params.items()],
            "tags": [self._study.entities.RunTag(*item) for item in pending.tags.items()],
        }
        if not self._write_at_once(run, rows):
            for kind, all_rows in rows.items():
                size = 900 if kind == "metrics" else 100
                for begin in range(0, len(all_rows), size):
                    self._write(key, run, kind, all_rows[begin : begin + size])
        run.steps.update(pending.steps)

    def _write_at_once(self, run: StoredRun, rows: dict[str, list[Any]]) -> bool:
        """Write everything in one request if it fits into one; return whether it is done."""
        if len(rows["metrics"]) > 800 or len(rows["params"]) > 100 or len(rows["tags"]) > 100:
            return False
        try:
            if any(rows.values()):
                self._study.client.log_batch(run.id, **rows)
        except Exception as error:
            if not self._is_permanent(error):
                raise
            return False
        return True

    def _write(self, key: str, run: StoredRun, kind: str, rows: list[Any]) -> None:
        """Write rows; of a refused batch find the refused rows by halving it."""
        try:
            self._study.client.log_batch(run.id, **{kind: rows})
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

    def _upload(self, run: StoredRun, event: Event) -> None:
        """Upload an artifact; one that keeps failing while the store answers is given up."""
        try:
            if event["op"] == "text":
                self._study.client.log_text(run.id, event["text"], event["name"])
            else:
                self._upload_file(run, event)
        except Exception as error:
            if self._tries < 5 and not self._is_permanent(error):
                raise
            self._study.client.get_experiment(self.experiment_id)  # raises while the store is away
            name = event.get("name") or event["path"]
            self._problem(
                f"{event['key'] or 'study'}: artifact {name} given up: {one_line(error)}", "given up"
            )

    def _upload_file(self, run: StoredRun, event: Event) -> None:
        """Upload a file of the run folder: events are read from a file, and whoever wrote it may name any path."""
        name = Path(event["path"])
        if name.is_relative_to(self._former_folder):
            name = name.relative_to(self._former_folder)
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            what = "is not in the run folder, so it is not uploaded"
            self._problem(f"{event['key'] or 'study'}: {event['path']} {what}", what)
        elif path.is_file():
            self._study.client.log_artifact(run.id, str(path), event["folder"] or None)
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

    def _log_inputs(self, run: StoredRun, inputs: Sequence[dict[str, str]]) -> None:
        """Log the data sets that a run reads; MLflow stores each once, however often it is logged."""
        rows = []
        for entry in inputs:
            dataset = self._study.entities.Dataset(**{k: v for k, v in entry.items() if k != "context"})
            tag = self._study.entities.InputTag("mlflow.data.context", entry["context"])
            rows.append(self._study.entities.DatasetInput(dataset, [tag]))
        self._study.client.log_inputs(run.id, rows)


#: {operation of events: what carries it out}; `Tracker` accepts no other
OPERATIONS: dict[str, Callable[[MlflowWriter, StoredRun, Event], None]] = {
    "start": MlflowWriter._start,
    "child": MlflowWriter._describe,
    "inputs": MlflowWriter._describe,
    "tag": MlflowWriter._nothing_more,
    "metrics": MlflowWriter._stage,
    "final": MlflowWriter._stage,
    "text": MlflowWriter._upload_after_metrics,
    "artifact": MlflowWriter._upload_after_metrics,
    "view": MlflowWriter._keep_view,
    "note": MlflowWriter._keep_note,
    "experiment_tags": MlflowWriter._tag_experiment,
    "close": MlflowWriter._close,
    "settle": MlflowWriter._settle,
}


def _is_gone(error: Exception) -> bool:
    """Whether someone deleted the run."""
    return "must be in the 'active' state" in str(error)
