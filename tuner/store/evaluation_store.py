"""Storing evaluations of checkpoints: metrics and remarks in the study storage, outlier scores as files."""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.base.errors import DataFileError
from trainables.base.storage import read_npz
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.store.run_folder import RunFolder
from tuner.store.stored_facts import EVALUATED, EVALUATION, LAST_EPOCH, by_trial, last_epochs
from tuner.store.trial_store import TrialStore

Scores = Mapping[str, "np.ndarray[Any, Any]"]


class EvaluationStore:
    """The evaluations of one run, by trial key."""

    def __init__(self, store: TrialStore, folder: RunFolder) -> None:
        self._store, self._folder = store, folder

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics} of the trials that were evaluated."""
        return self._notes(EVALUATION)

    def remarks(self) -> dict[str, list[str]]:
        """Return {trial key: remarks} of the evaluations that have any."""
        entries = self._notes(EVALUATED)
        return {key: entry["remarks"] for key, entry in entries.items() if entry["remarks"]}

    def protocols(self) -> dict[str, str]:
        """Return {trial key: `protocol_id` of the protocol that it was evaluated by}.

        Trials whose file of scores is damaged or lost are left out: they are to be evaluated again.
        """
        done = self._notes(EVALUATION)
        return {
            key: entry["protocol"]
            for key, entry in self._notes(EVALUATED).items()
            if key in done and self._read(key, entry) is not None
        }

    def add(
        self,
        key: str,
        protocol: EvaluationProtocol,
        metrics: Mapping[str, float],
        remarks: list[str],
        scores: Scores,
    ) -> str:
        """Keep an evaluation and return the name of the file of its scores, "" if it has none."""
        name, checksum = "", ""
        if scores:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {k: v.astype(np.float32) for k, v in scores.items()}
            np.savez_compressed(buffer, **arrays)
            name, checksum = _file_of(key), hashlib.sha256(buffer.getvalue()).hexdigest()
            self._folder.files.write(name, buffer.getvalue())
        entry = {"protocol": protocol_id(protocol), "remarks": remarks, "scores_sha256": checksum}
        self._store.note(f"{EVALUATED}{key}", entry)
        self._store.note(f"{EVALUATION}{key}", dict(metrics))  # last: marks the evaluation as complete
        return name

    def last_epochs(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics after its last epoch} of trials that are judged by an earlier one."""
        return last_epochs(self._store.notes())

    def last_epoch_protocols(self) -> dict[str, str]:
        """Return {trial key: `protocol_id` of the protocol that its last epoch was evaluated by}."""
        return {key: entry["protocol"] for key, entry in self._notes(LAST_EPOCH).items()}

    def add_last_epoch(self, key: str, protocol: EvaluationProtocol, metrics: Mapping[str, float]) -> None:
        """Keep what was measured after the last epoch of a trial that is judged by an earlier one."""
        self._store.note(f"{LAST_EPOCH}{key}", {"protocol": protocol_id(protocol), "metrics": dict(metrics)})

    def scores(self, key: str) -> dict[str, Any]:
        """Return the stored outlier scores of an evaluated trial; {} if it has none, or none that can be read."""
        return self._read(key, self._notes(EVALUATED).get(key, {})) or {}

    def unreadable(self, key: str) -> str:
        """Return one line if the scores of an evaluated trial are damaged or lost, else ""."""
        entry = self._notes(EVALUATED).get(key)
        if entry is None or self._read(key, entry) is not None:
            return ""
        return f"{_file_of(key)} is damaged or lost; a resume with the stage evaluate makes it again"

    def _read(self, key: str, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the scores of a trial, {} if there are none; None if its file is not the one that was written."""
        expected = entry.get("scores_sha256")  # None: of an earlier version, which did not note it
        if expected == "":
            return {}
        try:
            data = self._folder.files.read(_file_of(key))
            if expected not in (None, hashlib.sha256(data).hexdigest()):
                return None
            return read_npz(data, _file_of(key))
        except FileNotFoundError:
            return {} if expected is None else None
        except (OSError, DataFileError):
            return None

    def _notes(self, kind: str) -> dict[str, Any]:
        return by_trial(self._store.notes(), kind)


def _file_of(key: str) -> str:
    return f"evaluations/{key}.npz"


def protocol_id(protocol: EvaluationProtocol) -> str:
    """Return a short hash of everything that a protocol measures."""
    return hashlib.sha256(json.dumps(protocol.identity(), sort_keys=True).encode()).hexdigest()[:16]
