"""Finds or creates a study's MLflow runs, its own and one per trial, and keeps each of them one.

Imports no mlflow: `tuner.tracking.connection` hands over the client.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.base.urls import redact
from tuner.tracking.connection import artifact_folder, user_name
from tuner.tracking.spool import Event

#: spares the question for a type that MLflow's page of an experiment asks otherwise
KIND = {"mlflow.experimentKind": "custom_model_development"}


@dataclass
class StoredRun:
    """One MLflow run as the store has it: its status, its end (0 if it has none) and the last step of each metric."""

    id: str
    status: str
    end_ms: int
    steps: dict[str, int]


class StudyRuns:
    """The runs of one study in MLflow; "" is the key of the study's own run, a trial's has the trial's key.

    Args:
        uri, experiment, run, run_id: as for `tuner.tracking.tracker.Tracker`.
        problem: called with a line for everything that is taken out of the trash or found twice.

    Attributes:
        client, entities: MLflow's client and its module of entities, set by whoever opens the store.
        experiment_id: "" before the store has answered.
        runs: {key: run}, empty before the store has answered.
    """

    def __init__(
        self, uri: str, experiment: str, run: str, run_id: str, problem: Callable[[str], None]
    ) -> None:
        self._uri, self._experiment, self._run, self._run_id = uri, experiment, run, run_id
        self._query = f"tags.`run_id` = {_quoted(run_id)}"
        self._old_query = f"tags.`run` = {_quoted(run_id)}"  # of earlier versions, whose id is their name
        self._problem = problem
        self.client: Any = None
        self.entities: Any = None
        self.experiment_id = ""
        self.runs: dict[str, StoredRun] = {}

    def find(self) -> bool:
        """Find or create the study's run and find its children; return whether it had to be created."""
        self._find_experiment()
        known = self._search(self._query) or [
            run for run in self._search(self._old_query) if "run_id" not in run.data.tags
        ]
        if known:
            parent = self._single_run("", known)
        else:
            tags = {"run": self._run, "run_id": self._run_id}
            parent = self._create("", self._run, tags, None, self._query)
        self.runs = {"": _stored_run(parent)} | self._children(parent.info.run_id)
        return not known

    def _find_experiment(self) -> None:
        found = self.client.get_experiment_by_name(self._experiment)
        if found is None:
            self.experiment_id = self.client.create_experiment(
                self._experiment, artifact_folder(self._uri), KIND
            )
            return
        self.experiment_id = found.experiment_id
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(self.experiment_id)
            self._problem(
                f"study: experiment {self._experiment} was in MLflow's trash; it is restored with all its runs"
            )
        for name in set(KIND) - set(found.tags):
            self.client.set_experiment_tag(self.experiment_id, name, KIND[name])

    def _children(self, parent_id: str) -> dict[str, StoredRun]:
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
            self.client.restore_run(kept.info.run_id)
            self._problem(f"{key or 'study'}: MLflow run {kept.info.run_id} was in the trash; it is restored")
            return kept
        kept = self._fullest(key, active)
        for duplicate in active:
            if duplicate is not kept and self._held(key, duplicate):
                self._problem(
                    f"{key or 'study'}: a second MLflow run, {duplicate.info.run_id}, is left as it is"
                )
            elif duplicate is not kept:
                self.client.delete_run(duplicate.info.run_id)
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

    def undo_late_writes(self) -> None:
        """Undo what a slow server executed late: duplicate runs, and runs set back to an earlier status."""
        self._single_run("", self._search(self._query))
        for key, late in self._children(self.runs[""].id).items():
            run = self.runs.setdefault(key, late)
            if late.id == run.id and late.status != run.status:
                self.client.update_run(run.id, status=run.status)

    def of(self, event: Event) -> StoredRun:
        """Return the run that an event belongs to; that of a new trial is created."""
        key = event["key"]
        if key not in self.runs:
            parent = self.runs[""].id
            tags = {"key": key, "mlflow.parentRunId": parent}
            query = f"{_children_of(parent)} and tags.`key` = {_quoted(key)}"
            name = event["name"] if event["op"] == "child" else key
            self.runs[key] = _stored_run(self._create(key, name, tags, event["t"], query))
        return self.runs[key]

    def _create(self, key: str, name: str, tags: dict[str, str], start_ms: int | None, query: str) -> Any:
        """Create a run; `query` finds it."""
        tags = tags | {"mlflow.user": user_name(), "mlflow.source.name": Path(sys.argv[0]).name or "python"}
        tags["mlflow.source.type"] = "LOCAL"
        run = self.client.create_run(self.experiment_id, start_ms, tags, redact(name)[:250])
        if not self._uri.startswith("http"):
            return run
        # MLflow's client repeats a request whose answer was lost.
        return self._single_run(key, self._search(query) or [run])

    def _search(self, query: str) -> list[Any]:
        """Return the matching runs, those in the trash too, oldest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                query,
                run_view_type=self.entities.ViewType.ALL,
                max_results=500,
                order_by=["start_time ASC"],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


def _stored_run(run: Any) -> StoredRun:
    """Return a stored run. Only the protobuf message has the step of a metric's last value."""
    steps = {metric.key: int(metric.step) for metric in run.data.to_proto().metrics}
    return StoredRun(run.info.run_id, run.info.status, run.info.end_time or 0, steps)


def _children_of(run_id: str) -> str:
    """Return the query for the runs below another."""
    return f"tags.`mlflow.parentRunId` = '{run_id}'"


def _quoted(text: str) -> str:
    """Return `text` as a string of MLflow's search language, which has no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"
