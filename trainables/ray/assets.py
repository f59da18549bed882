"""What all trials of a study share: its data and the classifiers that fine-tuning starts from. No torch."""

from dataclasses import dataclass, field
from typing import Any

from trainables.data.types.benchmark import Benchmark


@dataclass
class Assets:
    """Data and pretrained weights that the driver loads once and all trials read from Ray's object store, zero-copy.

    Attributes:
        benchmark: the sealed benchmark of the study.
        pretrained: {seed: state dict of arrays} of the classifiers that fine-tuning starts from.
    """

    benchmark: Benchmark
    pretrained: dict[int, dict[str, Any]] = field(default_factory=dict)
