"""Storing evaluations of checkpoints: metrics and remarks in the study storage, outlier scores as files."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.store.run_folder import RunFolder
from tuner.store.trial_store import TrialStore

Scores = Mapping[str, "np.ndarray[Any, Any]"]


class EvaluationStore:
    """The evaluations of one run, by trial key."""

    def __init__(self, store: TrialStore, folder: RunFolder) -> None:
        self._store, self._folder = store, folder

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics} of the trials that were evaluated."""
        return self._notes("evaluation/")

    def remarks(self) -> dict[str, list[str]]:
        """Return {trial key: remarks} of the evaluations that have any."""
        entries = self._notes("evaluated/")
        return {key: entry["remarks"] for key, entry in entries.items() if entry["remarks"]}

    def protocols(self) -> dict[str, str]:
        """Return {trial key: `protocol_id` of the protocol that it was evaluated by}."""
        done = self._notes("evaluation/")
        return {k: entry["protocol"] for k, entry in self._notes("evaluated/").items() if k in done}

    def add(
        self,
        key: str,
        protocol: EvaluationProtocol,
        metrics: Mapping[str, float],
        remarks: list[str],
        scores: Scores,
    ) -> str:
        """Keep an evaluation and return the name of the file of its scores, "" if it has none."""
        name = f"evaluations/{key}.npz" if scores else ""
        if scores:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {k: v.astype(np.float32) for k, v in scores.items()}
            np.savez_compressed(buffer, **arrays)
            self._folder.files.write(name, buffer.getvalue())
        self._store.note(f"evaluated/{key}", {"protocol": protocol_id(protocol), "remarks": remarks})
        self._store.note(f"evaluation/{key}", dict(metrics))  # last: marks the evaluation as complete
        return name

    def scores(self, key: str) -> dict[str, Any]:
        """Return the stored outlier scores of an evaluated trial."""
        try:
            data = self._folder.files.read(f"evaluations/{key}.npz")
        except FileNotFoundError:
            return {}
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _notes(self, prefix: str) -> dict[str, Any]:
        notes = self._store.notes()
        return {key.removeprefix(prefix): value for key, value in notes.items() if key.startswith(prefix)}


def protocol_id(protocol: EvaluationProtocol) -> str:
    """Return a short hash of everything that a protocol measures."""
    return hashlib.sha256(json.dumps(asdict(protocol), sort_keys=True).encode()).hexdigest()[:16]
