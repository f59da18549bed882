"""Writes a study and its trials to MLflow: one run per trial, in batches, on a thread of its own.

Identity. The study's run is the MLflow run tagged `run_id`, which no other run has, whatever their names; a trial is
the child run tagged `key`. Both are searched before they are created, so a resume continues them even if the spool was
deleted or the run folder renamed, and takes them out of MLflow's trash.

Idempotence. Events go through the spool in order and are marked as delivered afterwards. A process killed between
the two delivers them again, which changes nothing: of each metric only steps after the run's last one are written,
each with the time stored in its event (MLflow drops exact duplicates); everything else overwrites the same value.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.base.text import one_line, short_reason
from tuner.base.urls import redact, resolved
from tuner.tracking.connection import open_store
from tuner.tracking.delivery_thread import DeliveryThread
from tuner.tracking.mlflow_uris import check_uri
from tuner.tracking.mlflow_writer import OPERATIONS, MlflowWriter
from tuner.tracking.problems import Problems
from tuner.tracking.spool import EventBatch, Spool

log = logging.getLogger(__name__)

Scalar = int | float | str | bool
#: a trial that the scheduler stopped did what it should: MLflow's KILLED would show it as a failure
STATUS_OF = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}

_MAX_PARAM, _MAX_TAG = 6000, 8000  # MLflow's limits: it would cut longer values without an error


@dataclass
class SpooledState:
    """What the spool has of a trial: its last epoch, its final state ("" while it runs), whether `final` was called."""

    step: int = 0
    state: str = ""
    final: bool = False


class Tracker:
    """One study run and its children in MLflow. Only `flush` and `close` wait, at most their timeout.

    A key names a child run ("0007"); the key "" is the study's run. Nothing raises if MLflow fails: what it
    refuses for good is left out and listed in `problems`, everything else is tried again.

    Args:
        uri: tracking URI, see `check_uri`, which this calls.
        experiment: the study's name.
        run: the study run's name.
        run_id: of the study's run, see `Plan.run_id`.
        spool: file that keeps undelivered events.
        tags: of the study's run.
        former_folder: where the run, and its spool, was at its last launch; default where it is now.
        interval_s: pause between deliveries; the values of a trial that arrive in between go in one request.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run: str,
        run_id: str,
        spool: Path,
        tags: Mapping[str, str],
        *,
        former_folder: Path | None = None,
        interval_s: float = 5.0,
    ) -> None:
        check_uri(uri)
        store = resolved(uri)
        consumer = hashlib.sha256(f"{redact(store)}\n{experiment}\n{run_id}".encode()).hexdigest()[:16]
        self._tags = _texts({**tags, "run": run, "run_id": run_id}, _MAX_TAG)
        self._spool = Spool(spool, consumer)
        self._problems = Problems()
        self._folder = spool.parent.absolute()
        self._writer = MlflowWriter(
            store, experiment, run, run_id, open_store, self._problems, self._folder, former_folder
        )
        self._delivery = DeliveryThread(
            self._spool, self._writer.connect, self._deliver, self._failed, interval_s
        )
        self._errors, self._last_error = 0, ""

    def start(self) -> None:
        """Start delivering: first the events that an earlier process left, then the study's run is reopened."""
        self._put(op="start", key="", tags=self._tags)
        self._delivery.start()

    def child(
        self,
        key: str,
        *,
        name: str,
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
        inputs: Sequence[Mapping[str, str]] = (),
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Create the run of a trial, or continue it. A closed run is reopened by its first new step.

        Args:
            inputs: see `inputs`.
            texts: {name of the artifact: its text}.
        """
        self._put(
            op="child",
            key=key,
            name=name,
            params=_texts(params, _MAX_PARAM),
            tags=_texts(tags, _MAX_TAG),
            inputs=[_texts(entry, _MAX_TAG) for entry in inputs],
            texts={artifact: redact(text) for artifact, text in (texts or {}).items()},
        )

    def metrics(self, key: str, step: int, values: Mapping[str, float], time_ms: int | None = None) -> None:
        """Record one epoch. Steps that a metric already has are skipped: a rolled-back trial may repeat them.

        NaN is stored as NaN. An infinite value is left out and listed as a problem: MLflow would store it as
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

    def view(self, name: str, view: Mapping[str, Any], title: str) -> None:
        """Store a shared view of the runs table, see `tuner.tracking.views`.

        Args:
            title: what the list of views has behind the name.
        """
        self._put(op="view", key="", name=name, view=dict(view), title=title)

    def note(self, text: str, *, on: str, first: bool = False) -> None:
        """Show Markdown on the page of the study's run or of its experiment; a user's own text is left alone.

        `$(experiment)`, `$(parent)` and `$(run:KEY)` in it become the ids of the experiment, of the study's run and of
        a trial's run when the event is delivered.

        Args:
            on: "experiment" or "run".
            first: only if there is no text yet.
        """
        self._put(op="note", key="", text=redact(text), on=on, first=first)

    def experiment_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment, which MLflow's list of experiments shows; the last value wins."""
        self._put(op="experiment_tags", key="", experiment_tags=_texts(tags, _MAX_TAG))

    def inputs(self, key: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Name the data sets that a run reads.

        Args:
            datasets: the fields of `mlflow.entities.Dataset` and "context" ("training", "validation").
        """
        self._put(op="inputs", key=key, inputs=[_texts(entry, _MAX_TAG) for entry in datasets])

    def artifact(self, key: str, path: Path, folder: str = "") -> None:
        """Upload a file of the run folder as it is when the event is delivered; one that is missing then is a problem.

        The spool has its path within the run folder, which may be moved before MLflow answers.
        """
        path = path.absolute()
        if path.is_relative_to(self._folder):
            path = path.relative_to(self._folder)
        self._put(op="artifact", key=key, path=str(path), folder=folder)

    def close_child(self, key: str, state: str, reason: str = "") -> None:
        """End a trial's run: FAIL shows as FAILED, COMPLETE and PRUNED as FINISHED; its tag `state` says which."""
        if state not in STATUS_OF:
            self._problems.add(f"{key}: unknown state {state!r}, expected one of {', '.join(STATUS_OF)}")
            return
        tags = {"state": state} | ({"reason": reason} if reason else {})
        self._put(op="close", key=key, status=STATUS_OF[state], tags=_texts(tags, _MAX_TAG))

    def settle(self, states: Mapping[str, str]) -> None:
        """Give trials' runs the status of their stored states again: a kill, or someone else, may have changed it.

        Args:
            states: {key: COMPLETE, PRUNED or FAIL}.
        """
        self._put(op="settle", key="", statuses={key: STATUS_OF[state] for key, state in states.items()})

    def flush(self, timeout_s: float = 30) -> int:
        """Wait until every event is delivered; return the number of those that are not.

        Returns early while the store keeps failing.
        """
        return self._delivery.flush(timeout_s)

    def close(self, status: str, timeout_s: float = 30) -> int:
        """End the study's run (FINISHED, FAILED or KILLED) and the delivery.

        Returns:
            The number of events still undelivered; they stay in the spool and go out at the next start.
        """
        self._put(op="close", key="", status=status)
        unsent = self._delivery.stop(timeout_s)
        if not self._delivery.alive:
            self._spool.close()
        return unsent

    def spooled(self) -> dict[str, SpooledState]:
        """Return {key of a trial: what the spool has of it}, delivered or not."""
        found: dict[str, SpooledState] = {}
        for event in self._spool:
            if not event["key"]:
                continue
            known = found.setdefault(event["key"], SpooledState())
            if event["op"] == "metrics":
                known.step = max(known.step, event["step"])
            elif event["op"] == "close":
                known.state = event["tags"]["state"]
            elif event["op"] == "final":
                known.final = True
        return found

    def parent_id(self) -> str | None:
        """Return the MLflow id of the study's run, once the store has answered."""
        return self.child_id("")

    def child_id(self, key: str) -> str | None:
        """Return the MLflow id of a trial's run, once the store has answered."""
        run = self._writer.runs.get(key)
        return run.id if run else None

    def experiment_id(self) -> str | None:
        """Return the MLflow id of the experiment, once the store has answered."""
        return self._writer.experiment_id or None

    @property
    def views(self) -> frozenset[str]:
        """Return the names of the shared views that the store has taken in this launch."""
        return frozenset(self._writer.views)

    @property
    def problems(self) -> list[str]:
        """What was left out for good, with the reason, and what was taken out of the trash, one line each kind."""
        return self._problems.lines()

    @property
    def failing(self) -> bool:
        """Whether the last delivery failed."""
        return self._delivery.failures > 0

    @property
    def errors(self) -> int:
        """Number of deliveries that failed and were, or will be, tried again."""
        return self._errors

    @property
    def last_error(self) -> str:
        """Reason of the last failed delivery, one line without credentials."""
        return self._last_error

    def _values(self, op: str, key: str, values: Mapping[str, float], step: int, time_ms: int | None) -> None:
        try:
            numbers = {name: float(value) for name, value in values.items()}
        except (TypeError, ValueError) as error:
            self._problems.add(f"{key or 'study'}: {op} left out: {error}")
            return
        self._put(op=op, key=key, step=int(step), v=numbers, t=time_ms)

    def _put(self, **event: Any) -> None:
        if event["op"] not in OPERATIONS:
            raise ValueError(f"{event['op']!r} is no operation of an event; known: {', '.join(OPERATIONS)}")
        event["t"] = event.get("t") or int(time.time() * 1000)
        try:
            self._spool.append(event)
        except (OSError, TypeError, ValueError) as error:  # a full disk must not end the study
            self._problems.add(f"{event['key'] or 'study'}: {event['op']} lost: {error}")

    def _deliver(self, batch: EventBatch) -> None:
        self._writer.send(batch.events)
        for line in batch.broken:
            self._problems.add(line)
        if self._delivery.failures:
            log.info("MLflow: the tracking store answers again")

    def _failed(self, error: Exception) -> None:
        self._writer.disconnect()
        self._errors += 1
        self._last_error = short_reason(error)
        if self._delivery.failures == 1:
            log.info("MLflow: %s; events are kept in %s", one_line(error), self._spool.path)


def _texts(values: Mapping[str, Scalar] | None, limit: int) -> dict[str, str]:
    """Return the values as text, shortened visibly to what MLflow stores, without credentials."""
    texts = {}
    for name, value in (values or {}).items():
        text = redact(str(value))
        if len(text) > limit:
            note = f"... [cut, {len(text)} characters]"
            text = text[: limit - len(note)] + note
        texts[name] = text
    return texts
