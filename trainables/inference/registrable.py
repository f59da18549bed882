"""`Registrable`: a predictor as the driver hands it to the model registry. Made by a worker; no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("robust_predictor.py")  #: the file that goes with every model


@dataclass(frozen=True)
class Registrable:
    """A predictor, written as a registry keeps it.

    Attributes:
        pickled: content of the model.pth, see `model_file.pickled`.
        digest: of classes, score and weights: the archive's own bytes may differ from one writing to the next.
        torch: the version that wrote it.
        facts: of the predictor.
    """

    pickled: bytes
    digest: str
    torch: str
    facts: Mapping[str, Any]
