"""GPU and CPU allocation per trial: as the user asked, as an earlier launch measured, or by a probe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainables.base.cache import cache_dir_of
from trainables.ray.assets import Assets
from tuner.devices.resources import Node, Resources, allocate, fitted, gpu_types, with_autoscaled_nodes
from tuner.devices.sharing_policy import CACHE_FILE, MeasurementCache
from tuner.devices.sharing_probe import Probe
from tuner.planning.plan import Plan
from tuner.store.run_folder import RunFolder


class GpuAllocation:
    """Allocates GPUs and CPUs to the trials of one launch.

    Attributes:
        known: see `known_share`.
        unmeasured: the share of a GPU has to be measured, which needs the study's data: `initial`, then `measure`.

    Args:
        nodes: what `ray.nodes()` returns.
        cluster: an autoscaler may start more nodes.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, nodes: Sequence[Mapping[str, Any]], cluster: bool
    ) -> None:
        self.plan, self.folder = plan, folder
        alive: list[Node] = [node["Resources"] for node in nodes if node["Alive"]]
        self.nodes = with_autoscaled_nodes(alive) if cluster else alive
        self.known = known_share(plan, folder.entries().get("gpu_share"), gpu_types(nodes))
        if self.known is None and plan.trains_one and self._allocate(None).gpus_per_trial > 0:
            self.known = (1.0, 1, None)  # one training has a GPU for itself: nothing to measure
        trains = "search" in plan.stages or "confirm" in plan.stages
        self.unmeasured = self.known is None and trains and self._allocate(None).gpus_per_trial > 0

    def _allocate(
        self, share: float | None, pack: int | None = None, single_trial_share: float | None = None
    ) -> Resources:
        resources = allocate(self.nodes, self.plan.cpus_per_trial, share, self.plan.concurrency)
        return replace(resources, pack=pack or self.plan.pack or 1, gpus_per_single_trial=single_trial_share)

    def initial(self) -> Resources:
        """Return the allocation of the tasks before the search; before a probe they get a whole GPU, which is free."""
        if self.unmeasured:
            return replace(self._allocate(1.0), note="")
        return self._allocate(*self.known) if self.known else self._allocate(None)

    def measure(self, assets: Assets, check: Callable[[], None]) -> tuple[Resources, tuple[str, ...]]:
        """Return the allocation that a probe chose, and its lines for the user; a complete result goes to `plan.json`.

        Raises:
            Exception: what `check` raises while the probe waits.
        """
        from tuner.devices.ray_probe import RayProbeBackend  # torch, which the driver lacks without a GPU

        cache_dir = cache_dir_of(self.plan.cache_dir)
        initial = self.initial()
        backend = RayProbeBackend(assets, initial.cpus_per_trial, check)
        cache = MeasurementCache(cache_dir / CACHE_FILE)
        result = Probe(fitted(self.plan, initial.cpus_per_trial), backend, cache, initial.concurrency).run()
        if result.complete:
            self.folder.update(
                gpu_share={
                    "share": result.gpu_share,
                    "pack": result.pack,
                    "alone": result.single_trial_share,
                    "wish": self.plan.pack,
                    "types": list(result.gpu_types),
                    "measured": list(result.notes),
                }
            )
        return self._allocate(result.gpu_share, result.pack, result.single_trial_share), result.notes


def known_share(
    plan: Plan, recorded: Mapping[str, Any] | None, types: Sequence[str]
) -> tuple[float, int, float | None] | None:
    """Return (share of a worker, its pack, share of a process with one trial), or None if it has to be measured.

    The user's `--gpus-per-trial` counts first, then what an earlier launch of the run measured.

    Args:
        recorded: "gpu_share" of `plan.json`; ignored if a type of GPU is up that was not measured, or if another
            `--pack` is asked for.
        types: Ray's names of the GPUs that are up.
    """
    if plan.gpus_per_trial is not None:
        return plan.gpus_per_trial, plan.pack or 1, None
    if recorded is None or recorded.get("wish") != plan.pack or not set(types) <= set(recorded["types"]):
        return None
    return float(recorded["share"]), int(recorded.get("pack", 1)), recorded.get("alone")
