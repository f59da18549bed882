"""The state file of an AutoAttack run, written after every batch, from which a killed run resumes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.base.errors import DataFileError, InputError
from trainables.base.storage import atomic_write, read_npz


@dataclass
class Progress:
    """What a state file holds: `batch` batches of attack number `stage` are done.

    Attributes:
        clean: (n,) bool, images that are right without an attack.
        begun: (n,) bool, images that were right when this attack began: its batches are drawn from them.
        standing: (n,) bool, images that are right under every attack so far.
        after: {"clean" or attack: share of images right after it}.
        warnings: {message without its numbers: message}, of the library so far.
    """

    clean: np.ndarray
    begun: np.ndarray
    standing: np.ndarray
    after: dict[str, float]
    warnings: dict[str, str]
    stage: int = 0
    batch: int = 0

    def write(self, path: Path, key: str) -> None:
        """Write the file; the key says which run it belongs to."""
        meta = {
            "key": key,
            "after": self.after,
            "heard": self.warnings,
            "stage": self.stage,
            "batch": self.batch,
        }
        arrays: dict[str, Any] = {"clean": self.clean, "begun": self.begun, "standing": self.standing}
        arrays["meta"] = np.array(json.dumps(meta))
        with atomic_write(path) as file:
            np.savez(file, **arrays)

    @staticmethod
    def read(path: Path, key: str) -> "Progress":
        """Read a file that `write` wrote.

        Raises:
            InputError: it belongs to another run.
            ValueError: it is truncated or damaged.
        """
        try:
            saved = read_npz(path.read_bytes(), str(path))
            meta = json.loads(str(saved["meta"]))
            arrays = {name: saved[name] for name in ("clean", "begun", "standing")}
            progress = Progress(
                after=meta["after"],
                warnings=meta["heard"],
                stage=meta["stage"],
                batch=meta["batch"],
                **arrays,
            )
        except (DataFileError, OSError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error
        if meta["key"] != key:
            raise InputError(
                f"{path} is the state of an AutoAttack run on another network, data or setting; "
                "delete it or name another file"
            )
        return progress
