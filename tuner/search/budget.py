"""Budgets of a search and what it has used: epochs, and seconds of GPU or CPU. Pure values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.base.records import TrialRecord

GPU_SECONDS, CPU_SECONDS = "gpu_seconds", "cpu_seconds"  # of an epoch: share of the device x "seconds"


@dataclass(frozen=True)
class Usage:
    """Epochs and time that trials have used; without the epochs that a kill cut short.

    Attributes:
        epochs: finished ones.
        seconds: wall time of the trials' epochs, summed over trials (more than has passed where they run side by
            side).
        gpu_seconds, cpu_seconds: the same times the trial's share of a GPU; times its CPUs where it has no GPU.
    """

    epochs: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> "Usage":
        total = cls()
        for record in records:
            for epoch in record.history.values():
                total = total.plus(epoch.metrics)
        return total

    def plus(self, metrics: Mapping[str, float]) -> "Usage":
        """Return the usage with one more epoch."""
        return Usage(
            self.epochs + 1,
            self.seconds + metrics.get("seconds", 0.0),
            self.gpu_seconds + metrics.get(GPU_SECONDS, 0.0),
            self.cpu_seconds + metrics.get(CPU_SECONDS, 0.0),
        )


@dataclass(frozen=True)
class SearchBudget:
    """Limits after which no trial starts any more; running trials go on to their end.

    Attributes:
        epochs: of all lanes of the search together; None is no limit.
        seconds: GPU-seconds, and CPU-seconds of trials that had no GPU.
    """

    epochs: int | None = None
    seconds: float | None = None

    def is_spent(self, usage: Usage) -> bool:
        return (self.epochs is not None and usage.epochs >= self.epochs) or (
            self.seconds is not None and usage.gpu_seconds + usage.cpu_seconds >= self.seconds
        )


NO_BUDGET = SearchBudget()


def share_of(cpus_per_trial: int, gpus_per_trial: float) -> dict[str, float]:
    """Return {metric: factor} that turns the seconds of an epoch into GPU-seconds, or CPU-seconds without a GPU.

    Example:
        a quarter of a GPU: {"gpu_seconds": 0.25}; two CPUs and no GPU: {"cpu_seconds": 2.0}
    """
    return {GPU_SECONDS: gpus_per_trial} if gpus_per_trial else {CPU_SECONDS: float(cpus_per_trial)}
