"""Carries trials into MLflow: one run per trial for life, in batches, off the driver's thread.

The only file that imports mlflow, and only inside functions: importing this module is cheap.

Identity. The study's run is the MLflow run tagged `run` = its name; a trial is the child tagged `key` below it.
Both are searched before they are created, so a resume continues them even if the spool is gone.

Idempotence. Events go through the spool in order and are acknowledged once delivered. A process killed between
the two delivers them again, which changes nothing: of each metric only steps after the run's own last one are
written, each with the time stored in its event (MLflow drops exact duplicates); the rest overwrites itself.
"""

import getpass
import hashlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.links import DEFAULT_URI, absolute, check_uri, redact, sqlite_file, ui_command, ui_links
from tuner.spool import Courier, Event, Page, Spool

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["DEFAULT_URI", "STATUS_OF", "Tracker", "check_uri", "log_winner", "redact", "ui_command", "ui_links"]

log = logging.getLogger(__name__)

Scalar = int | float | str | bool
STATUS_OF = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}

_MAX_PARAM, _MAX_TAG = 6000, 8000  # MLflow's limits, where it would cut without a word
_MAX_PROBLEMS = 200
_DUBIOUS = ("BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")  # also what a store in trouble answers


class Tracker:
    """One study run and its children in MLflow. Only `flush` and `close` wait, at most their timeout.

    A key names a child for ever ("t0007"); the key "" is the study's run. Trouble never raises: what MLflow
    refuses for good is left out and listed in `problems`, everything else is tried again.

    Args:
        uri: tracking URI, see `check_uri`, which this calls.
        experiment: the study's name.
        run: the study run's name, unique in the experiment.
        spool: file that keeps undelivered events.
        tags: of the study's run.
        interval_s: pause between deliveries.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run: str,
        spool: Path,
        tags: Mapping[str, str],
        *,
        interval_s: float = 1.0,
    ) -> None:
        check_uri(uri)
        store = absolute(uri)
        consumer = hashlib.sha256(f"{redact(store)}\n{experiment}\n{run}".encode()).hexdigest()[:16]
        self._tags = _texts(tags, _MAX_TAG)
        self._spool = Spool(spool, consumer)
        self._sender = _Sender(store, experiment, run, self._problem)
        self._courier = Courier(self._spool, self._sender.connect, self._deliver, self._failed, interval_s)
        self._problems: dict[str, None] = {}
        self._errors, self._last_error = 0, ""

    def start(self) -> None:
        """Start the writer; it first delivers what an earlier process left behind, then reopens the study's run."""
        self._put(op="start", key="", tags=self._tags)
        self._courier.start()

    def child(
        self, key: str, *, name: str, params: Mapping[str, Scalar] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Declare the run of a trial, or take it up again. A closed run reopens with its first new step."""
        self._put(op="child", key=key, name=name, params=_texts(params, _MAX_PARAM), tags=_texts(tags, _MAX_TAG))

    def metrics(self, key: str, step: int, values: Mapping[str, float], time_ms: int | None = None) -> None:
        """Record one epoch. Steps that a metric already has are skipped: a rolled-back trial may repeat them.

        NaN is stored as NaN. An infinite value is left out and noted as a problem: MLflow would store it as
        1.8e308, which flattens every chart it appears in.
        """
        self._values("metrics", key, values, step, time_ms)

    def final(self, key: str, values: Mapping[str, float]) -> None:
        """Record closing values once, at the last step the run has reached (0 if none).

        A metric that the run already has is left alone, so name them differently from the per-epoch ones.
        """
        self._values("final", key, values, 0, None)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Set tags; the last value wins."""
        self._put(op="tag", key=key, tags=_texts(tags, _MAX_TAG))

    def text(self, key: str, text: str, name: str) -> None:
        """Store `text` as the artifact `name`."""
        self._put(op="text", key=key, text=redact(text), name=name)

    def artifact(self, key: str, path: Path, folder: str = "") -> None:
        """Upload a file as it is when its turn comes; it is a problem if it is gone by then."""
        self._put(op="artifact", key=key, path=str(path.absolute()), folder=folder)

    def close_child(self, key: str, state: str, reason: str = "") -> None:
        """End a trial's run: COMPLETE shows as FINISHED, PRUNED as KILLED, FAIL as FAILED."""
        if state not in STATUS_OF:
            self._problem(f"{key}: unknown state {state!r}, expected one of {', '.join(STATUS_OF)}")
            return
        tags = {"state": state} | ({"reason": reason} if reason else {})
        self._put(op="close", key=key, status=STATUS_OF[state], tags=_texts(tags, _MAX_TAG))

    def flush(self, timeout_s: float = 30) -> int:
        """Wait for the writer to catch up; return the number of events still undelivered."""
        return self._courier.flush(timeout_s)

    def close(self, status: str, timeout_s: float = 30) -> int:
        """End the study's run (FINISHED, FAILED or KILLED) and the writer, and log the problems.

        Returns:
            The number of events still undelivered; they stay in the spool and go out at the next start.
        """
        self._put(op="close", key="", status=status)
        unsent = self._courier.stop(timeout_s)
        if not self._courier.alive:
            self._spool.close()
        for problem in self.problems:
            log.warning("MLflow: %s", problem)
        if unsent:
            log.warning("MLflow: %d events undelivered, kept in %s; %s", unsent, self._spool.path, self._last_error)
        return unsent

    def parent_id(self) -> str | None:
        """Return the MLflow id of the study's run, once the store has answered."""
        return self.child_id("")

    def child_id(self, key: str) -> str | None:
        """Return the MLflow id of a trial's run, once the store has answered."""
        run = self._sender.runs.get(key)
        return run.id if run else None

    def experiment_id(self) -> str | None:
        """Return the MLflow id of the experiment, once the store has answered."""
        return self._sender.experiment_id or None

    @property
    def problems(self) -> list[str]:
        """What was left out for good and why, one line each."""
        return list(self._problems)

    @property
    def errors(self) -> int:
        """How many deliveries failed and were, or will be, tried again."""
        return self._errors

    @property
    def last_error(self) -> str:
        """The newest of their reasons, one line without credentials."""
        return self._last_error

    def _values(self, op: str, key: str, values: Mapping[str, float], step: int, time_ms: int | None) -> None:
        try:
            numbers = {name: float(value) for name, value in values.items()}
        except (TypeError, ValueError) as error:
            self._problem(f"{key or 'study'}: {op} left out: {error}")
            return
        self._put(op=op, key=key, step=int(step), v=numbers, t=time_ms)

    def _put(self, **event: Any) -> None:
        event["t"] = event.get("t") or int(time.time() * 1000)
        try:
            self._spool.append(event)
        except (OSError, TypeError, ValueError) as error:  # a full disk must not end the study
            self._problem(f"{event['key'] or 'study'}: {event['op']} lost: {error}")

    def _deliver(self, page: Page) -> None:
        self._sender.send(page.events)
        for line in page.broken:
            self._problem(line)
        if self._courier.failures:
            log.info("MLflow: the tracking store answers again")

    def _failed(self, error: Exception) -> None:
        self._sender.disconnect()
        self._errors += 1
        self._last_error = _one_line(error)
        if self._courier.failures == 1:
            log.warning("MLflow: %s; events are kept in %s", self._last_error, self._spool.path)

    def _problem(self, line: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems[_one_line(line)] = None


@dataclass
class _Run:
    """What is known of one MLflow run: its status and the last step of each metric, as the store has them."""

    id: str
    status: str
    steps: dict[str, int]


@dataclass
class _Pending:
    """What waits to be written to one run. `steps` become the run's own only once they are."""

    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


class _Sender:
    """The side that speaks to MLflow; used by the writer's thread alone, except for looking up ids."""

    def __init__(self, uri: str, experiment: str, run: str, problem: Callable[[str], None]) -> None:
        self._uri, self._experiment, self._run, self._problem = uri, experiment, run, problem
        self._client: Any = None
        self._connected = False
        self._tries = 0  # failures since the last page that went through
        self._pending: dict[str, _Pending] = {}
        self._refused: set[str] = set()  # metric names, so that a bad one costs its search once
        self.experiment_id = ""
        self.runs: dict[str, _Run] = {}

    def connect(self) -> bool:
        """Find or create the study's run and find its children; return whether it had to be created."""
        if self._connected:
            return False
        self._client = self._client or _open(self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            self.experiment_id = self._client.create_experiment(self._experiment, _artifact_folder(self._uri))
        else:
            self.experiment_id = found.experiment_id
            if found.lifecycle_stage != "active":
                self._client.restore_experiment(self.experiment_id)
        mine = f"tags.`run` = {_quoted(self._run)}"
        known = self._search(mine)
        if len(known) > 1:
            self._problem(f"{len(known)} runs are tagged run={self._run}; the oldest is continued")
        parent = known[0] if known else self._create(self._run, {"run": self._run}, None, mine)
        self.runs = {"": _known(parent)}
        for child in self._search(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"):
            self.runs.setdefault(child.data.tags.get("key", child.info.run_id), _known(child))
        self._connected = True
        return not known

    def disconnect(self) -> None:
        """Forget what was assumed: after a failure the store is asked again what it has."""
        self._connected = False
        self._pending = {}
        self._tries += 1

    def send(self, events: Sequence[Event]) -> None:
        """Apply events in order; raises if the store is in trouble, and may then be given them again."""
        for event in events:
            try:
                self._apply(event)
            except Exception as error:
                if not self._hopeless(error):
                    raise
                self._problem(f"{event.get('key') or 'study'}: {event.get('op')} left out: {_one_line(error)}")
        self._flush_all()
        self._tries = 0

    def _apply(self, event: Event) -> None:
        op, key = event["op"], event["key"]
        run = self.runs.get(key) or self._new_child(event)
        if op in ("text", "artifact"):
            self._flush_all()  # numbers do not wait for a slow or failing upload
            self._upload(run, event)
            return
        pending = self._pending.setdefault(key, _Pending())
        pending.params.update(event.get("params", {}))
        pending.tags.update(event.get("tags", {}))
        if op in ("metrics", "final"):
            self._stage(run, pending, event)
        elif op == "start":
            self._set_status(run, "RUNNING", 0)
        elif op == "close":
            self._flush(key)
            self._set_status(run, event["status"], event["t"])

    def _stage(self, run: _Run, pending: _Pending, event: Event) -> None:
        """Queue the values the run does not have yet."""
        from mlflow.entities import Metric

        known = {**run.steps, **pending.steps}
        final = event["op"] == "final"
        step = max(known.values(), default=0) if final else event["step"]
        for name, value in event["v"].items():
            if name in self._refused or (name in known and (final or step <= known[name])):
                continue
            if math.isinf(value):
                self._problem(f"{event['key'] or 'study'}: {name} is {value} at step {step}, left out")
                continue
            pending.metrics.append(Metric(name, value, event["t"], step))
            pending.steps[name] = step
        if pending.metrics and not final and event["key"]:
            self._set_status(run, "RUNNING", 0)

    def _set_status(self, run: _Run, status: str, end_ms: int) -> None:
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
        """Write what waits for one run, within MLflow's limits on a batch."""
        from mlflow.entities import Param, RunTag

        pending, run = self._pending.pop(key), self.runs[key]
        rows: dict[str, list[Any]] = {
            "params": [Param(*item) for item in pending.params.items()],
            "tags": [RunTag(*item) for item in pending.tags.items()],
            "metrics": pending.metrics,
        }
        for kind, all_rows in rows.items():
            size = 900 if kind == "metrics" else 100
            for begin in range(0, len(all_rows), size):
                self._write(key, run, kind, all_rows[begin : begin + size])
        run.steps.update(pending.steps)

    def _write(self, key: str, run: _Run, kind: str, rows: list[Any]) -> None:
        """Write rows; of a batch that is refused, find the culprits by halving it."""
        try:
            self._client.log_batch(run.id, **{kind: rows})
        except Exception as error:
            if not self._hopeless(error):
                raise
            if len(rows) > 1 and not _is_gone(error):
                self._write(key, run, kind, rows[: len(rows) // 2])
                self._write(key, run, kind, rows[len(rows) // 2 :])
                return
            if kind == "metrics" and not _is_gone(error):
                self._refused.add(rows[0].key)
            names = ", ".join(row.key for row in rows[:3])
            self._problem(f"{key or 'study'}: {kind} {names} refused: {_one_line(error)}")

    def _upload(self, run: _Run, event: Event) -> None:
        """Store an artifact; one that keeps failing while the store answers is given up."""
        try:
            if event["op"] == "text":
                self._client.log_text(run.id, event["text"], event["name"])
            elif Path(event["path"]).is_file():
                self._client.log_artifact(run.id, event["path"], event["folder"] or None)
            else:
                self._problem(f"{event['key'] or 'study'}: no file {event['path']} to upload")
        except Exception as error:
            if self._tries < 5 and not self._hopeless(error):
                raise
            self._client.get_experiment(self.experiment_id)  # raises while the store is away
            name = event.get("name") or event["path"]
            self._problem(f"{event['key'] or 'study'}: artifact {name} given up: {_one_line(error)}")

    def _hopeless(self, error: Exception) -> bool:
        """Whether trying again cannot help. Doubtful answers count only when they persist after reconnecting."""
        if isinstance(error, OSError):
            return False
        if isinstance(error, (TypeError, ValueError, KeyError, AttributeError)):
            return True
        code = getattr(error, "error_code", "")
        if code in _DUBIOUS or _is_gone(error):
            return self._tries >= 3
        return code == "INVALID_PARAMETER_VALUE"

    def _new_child(self, event: Event) -> _Run:
        key, parent = event["key"], self.runs[""].id
        tags = {"key": key, "mlflow.parentRunId": parent}
        mine = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`key` = {_quoted(key)}"
        run = _known(self._create(event.get("name") or key, tags, event["t"], mine))
        self.runs[key] = run
        return run

    def _create(self, name: str, tags: dict[str, str], start_ms: int | None, mine: str) -> Any:
        """Create a run; `mine` finds it."""
        tags = tags | {"mlflow.user": _user(), "mlflow.source.name": Path(sys.argv[0]).name or "python"}
        tags["mlflow.source.type"] = "LOCAL"
        run = self._client.create_run(self.experiment_id, start_ms, tags, redact(name)[:250])
        if not self._uri.startswith("http"):
            return run
        # MLflow's client repeats a request whose answer was lost, and creating is not idempotent.
        first, *twins = self._search(mine) or [run]
        for twin in twins:
            self._client.delete_run(twin.info.run_id)
        return first

    def _search(self, query: str) -> list[Any]:
        """Return the matching runs, oldest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, max_results=500, order_by=["start_time ASC"], page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs
