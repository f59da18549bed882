"""What a trial gets, settled before the first one starts, so that none waits for ever for what is not there."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """Per trial and in all.

    Attributes:
        gpus_per_trial: share of one GPU; 0 on the CPU.
        concurrency: trials at a time.
        note: a line for the user where the wish could not be met, or "".
    """

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int
    note: str = ""

    def as_request(self) -> dict[str, float]:
        request: dict[str, float] = {"cpu": self.cpus_per_trial}
        if self.gpus_per_trial:
            request["gpu"] = self.gpus_per_trial
        return request


AUTO_GPU_FRACTION = 0.25


def settle(
    cluster: Mapping[str, float], cpus_per_trial: int, gpus_per_trial: float | None, concurrency: int | None
) -> Resources:
    """Return what each trial gets on this cluster.

    Args:
        cluster: `ray.cluster_resources()`.
        gpus_per_trial: None = automatic: a quarter where there is a GPU, nothing where there is none.
        concurrency: None = as many as fit.

    A GPU share that no GPU can serve becomes 0 with a note: Tune would wait without end.
    """
    cpus, gpus = int(cluster.get("CPU", 1)), int(cluster.get("GPU", 0))
    notes = []
    share = (AUTO_GPU_FRACTION if gpus else 0.0) if gpus_per_trial is None else gpus_per_trial
    if share and not gpus:
        notes.append(f"no GPU here: the trials run on the CPU instead of on {share:g} GPU each")
        share = 0.0
    each = cpus_per_trial
    if each > cpus:
        notes.append(f"{each} CPUs per trial asked for, {cpus} there: each trial gets {cpus}")
        each = cpus
    fit = max(1, cpus // each)
    if share:
        # a share never spans devices: 0.4 of 2 GPUs is 2 + 2 trials, not 5; whole multiples use several
        fit = min(fit, gpus * int(1 / share + 1e-9) if share <= 1 else gpus // int(share))
    wanted = fit if concurrency is None else concurrency
    if wanted > fit:
        notes.append(f"--concurrency {wanted} does not fit; {fit} trials run at a time")
    return Resources(each, share, max(1, min(wanted, fit)), "; ".join(notes))
