"""What each trial of a run gets of the machines: as the user asked, as an earlier launch measured, or by a probe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainables.base.cache import cache_dir_of
from trainables.ray.trainable import Assets
from tuner.devices.ray_probe import RayCopies
from tuner.devices.resources import Node, Resources, gpu_types, settle, with_nodes_to_come
from tuner.devices.sharing_policy import FILE, Remembered
from tuner.devices.sharing_probe import Probe
from tuner.planning.plan import Plan
from tuner.store.run_folder import RunFolder


class Sharing:
    """The resources of one launch.

    Attributes:
        known: share of a GPU and pack of each worker, and the share of a single trial, where they are.
        unmeasured: the share of a GPU is to be measured, which needs the study's data: `first`, then `measure`.

    Args:
        nodes: of `ray.nodes()`.
        cluster: more of them may come up.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, nodes: Sequence[Mapping[str, Any]], cluster: bool
    ) -> None:
        self.plan, self.folder = plan, folder
        alive: list[Node] = [node["Resources"] for node in nodes if node["Alive"]]
        self.nodes = with_nodes_to_come(alive) if cluster else alive
        self.known = known_share(plan, folder.read()[1].get("gpu_share"), gpu_types(nodes))
        trains = "search" in plan.stages or "confirm" in plan.stages
        self.unmeasured = self.known is None and trains and self._settle(None).gpus_per_trial > 0

    def _settle(self, share: float | None, pack: int | None = None, alone: float | None = None) -> Resources:
        found = settle(self.nodes, self.plan.cpus_per_trial, share, self.plan.concurrency)
        return replace(found, pack=pack or self.plan.pack or 1, gpus_alone=alone)

    def first(self) -> Resources:
        """Return what the study's first jobs get; before a probe a whole GPU, since nothing else is on it."""
        if self.unmeasured:
            return replace(self._settle(1.0), note="")
        return self._settle(*self.known) if self.known else self._settle(None)

    def measure(self, assets: Assets, check: Callable[[], None]) -> tuple[Resources, tuple[str, ...]]:
        """Return what a trial gets by a probe, which is written into `plan.json`, and lines on what it found.

        Raises:
            Exception: what `check` raises while the probe waits.
        """
        cache = cache_dir_of(self.plan.lanes[0].fixed.get("cache_dir", ""))
        first = self.first()
        copies = RayCopies(assets, first.cpus_per_trial, check)
        found = Probe(self.plan, copies, Remembered(cache / FILE), first.concurrency).run()
        if found.whole:
            self.folder.update(
                gpu_share={
                    "share": found.value,
                    "pack": found.pack,
                    "alone": found.alone,
                    "wish": self.plan.pack,
                    "types": list(found.types),
                    "measured": list(found.notes),
                }
            )
        return self._settle(found.value, found.pack, found.alone), found.notes


def known_share(
    plan: Plan, recorded: Mapping[str, Any] | None, types: Sequence[str]
) -> tuple[float, int, float | None] | None:
    """Return what the user gave or an earlier launch of the run has measured, as `probe.Share` has it; None: not known.

    Args:
        recorded: "gpu_share" of `plan.json`; it counts unless there is a type of GPU now that was not there then, or
            another `--pack` is asked for.
        types: of the GPUs that are up.

    Returns:
        Share of a worker, its pack, and the share of a process with one trial.
    """
    if plan.gpus_per_trial is not None:
        return plan.gpus_per_trial, plan.pack or 1, None
    if recorded is None or recorded.get("wish") != plan.pack or not set(types) <= set(recorded["types"]):
        return None
    return float(recorded["share"]), int(recorded.get("pack", 1)), recorded.get("alone")
