"""Cache of evaluation results, keyed by the content of checkpoint, protocol and data.

An entry is `<key>.npz` (scores) and `<key>.json` (metrics, and the checksum of the scores), the latter written
last. What cannot be read whole counts as missing and is computed again.
"""

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainables.base.cache import default_cache_dir, locked, make_cache_folder
from trainables.base.storage import atomic_write, read_npz
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.result import Evaluation

#: Part of every key: raise it whenever an evaluation of the same content may give other numbers or names.
FORMAT = 2


def evaluation_key(checkpoint: bytes, protocol: EvaluationProtocol, data: str, seed: int = 0) -> str:
    """Return the SHA-256 of everything an evaluation depends on, hexadecimal.

    Args:
        checkpoint: the file's bytes.
        protocol: every field that it measures by counts, its name too.
        data: `trainables.data.loading.open_dataset.fingerprint` of the benchmark.
        seed: of the random starts of attacks.
    """
    content = [FORMAT, hashlib.sha256(checkpoint).hexdigest(), protocol.identity(), data, seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class EvaluationCache:
    """Evaluations in a folder, by default the user's cache folder; processes of one node may share it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache_dir() / "evaluations"

    def reuse(self, key: str, compute: Callable[[Path | None], Evaluation]) -> Evaluation:
        """Return the stored evaluation, or compute and store it; two processes compute it once.

        Args:
            compute: given the folder in which it may keep what it needs to go on after a kill (gone once the evaluation
                is stored), None where nothing can be written.

        An evaluation that cannot be stored (a full disk, a folder without write permission) is returned with a
        warning, not lost.
        """
        evaluation = self.load(key)
        if evaluation is not None:
            return evaluation
        try:
            make_cache_folder(self.folder)
            lock = locked(self.folder / f".{key}.lock")
            lock.__enter__()
        except OSError as error:
            warnings.warn(f"evaluations cannot be stored in {self.folder}: {error}", stacklevel=2)
            return compute(None)
        try:
            evaluation = self.load(key)
            if evaluation is not None:
                return evaluation
            evaluation = compute(self._state(key))
            try:
                self.store(key, evaluation)
            except OSError as error:
                warnings.warn(f"evaluation not stored in {self.folder}: {error}", stacklevel=2)
            return evaluation
        finally:
            lock.__exit__(None, None, None)

    def store(self, key: str, evaluation: Evaluation) -> None:
        """Write an entry; a reader sees all of it or none."""
        make_cache_folder(self.folder)
        names = [["", name] for name in evaluation.scores]
        arrays = list(evaluation.scores.values())
        for epsilon, by_set in evaluation.attacked_scores.items():
            names += [[epsilon, name] for name in by_set]
            arrays += by_set.values()
        buffer = io.BytesIO()
        # names of sets are not names of files: they stay in the JSON, in the order of the arrays
        np.savez(buffer, **{f"a{i}": array for i, array in enumerate(arrays)})  # type: ignore[arg-type]
        data = buffer.getvalue()
        entry = {
            "format": FORMAT,
            "scores_sha256": hashlib.sha256(data).hexdigest(),
            "arrays": names,
            "metrics": evaluation.metrics,
            "remarks": evaluation.remarks,
        }
        entry["sha256"] = _checksum(entry)
        with atomic_write(self._path(key, "npz")) as file:
            file.write(data)
        with atomic_write(self._path(key, "json")) as file:
            file.write(json.dumps(entry, indent=1).encode())
        shutil.rmtree(self._state(key), ignore_errors=True)

    def load(self, key: str) -> Evaluation | None:
        """Return a stored evaluation, bit for bit, or None where there is no whole one."""
        try:
            entry = json.loads(self._path(key, "json").read_bytes())
            data = self._path(key, "npz").read_bytes()
            if entry["format"] != FORMAT or entry.pop("sha256") != _checksum(entry):
                return None
            if hashlib.sha256(data).hexdigest() != entry["scores_sha256"]:
                return None
            evaluation = Evaluation({name: float(value) for name, value in entry["metrics"].items()})
            evaluation.remarks += map(str, entry["remarks"])
            arrays = read_npz(data, key)
            for i, (epsilon, name) in enumerate(entry["arrays"]):
                target = evaluation.attacked_scores.setdefault(epsilon, {}) if epsilon else evaluation.scores
                target[name] = arrays[f"a{i}"]
        # whatever is wrong with a file of a cache, it is computed again
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return evaluation

    def _state(self, key: str) -> Path:
        return self.folder / f"{key}.state"

    def _path(self, key: str, ending: str) -> Path:
        return self.folder / f"{key}.{ending}"


def _checksum(entry: object) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
