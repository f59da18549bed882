"""A device that says what a test wants it to say, for probes on Ray nodes whose GPUs are only numbers."""

import os
import time
from dataclasses import dataclass

import ray
import torch

GIB = 2**30


@dataclass(frozen=True)
class Pretend:
    """A GPU of 16 GiB, by the name in $PRETEND_GPU of its node.

    Attributes:
        peak: of each copy, bytes.
        full_from: so many copies run out of memory.
        slow_s: the device takes so long to do what it was told.
        error: what it answers to its name instead.
    """

    peak: int = GIB
    full_from: int = 1000
    slow_s: float = 0.0
    error: str = ""

    def name(self) -> str:
        if self.error:
            raise RuntimeError(self.error)
        return os.environ.get("PRETEND_GPU", "Pretend 16")

    def total_memory(self) -> int:
        return 16 * GIB + 12345

    def peak_memory(self) -> int:
        return self.peak

    def outside_memory(self) -> int:
        return GIB

    def synchronize(self) -> None:
        share = ray.get_runtime_context().get_assigned_resources()["GPU"]
        if round(1 / share) >= self.full_from:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        time.sleep(self.slow_s)
