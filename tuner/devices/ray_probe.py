"""Trials side by side on one GPU, placed and timed on Ray for `sharing_probe`.

A placement group reserves one whole device of a node, so that they have it to themselves and share no other.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from trainables.ray.throughput_probe import Copy, Cuda, Device, facts_of
from trainables.ray.trainable import Assets, describe
from tuner.devices.resources import copies_allowed, gpu_nodes, gpu_types
from tuner.devices.sharing_policy import Gpu, Measured, Way
from tuner.devices.sharing_probe import Kind, Limits, ProbeFailed

SLICE = 0.01  # of a GPU: for a job that only looks at it


class RayCopies:
    """The nodes of the cluster that Ray is connected to, and measurements on them.

    Args:
        cpus: of each trial.
        check: called while waiting; raises what ends the study.
        device: what copies ask about their device; another than Cuda in tests.
    """

    def __init__(
        self,
        assets: Assets,
        cpus: int,
        check: Callable[[], None],
        device: Device | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.assets, self.cpus, self.check = assets, cpus, check
        self.device: Device = device or Cuda()
        self.limits = limits or Limits()
        self._shared: Any = None  # the assets in Ray's store
        self._deadline = math.inf

    def kinds(self) -> list[Kind]:
        """Return the kinds of GPU among the nodes, in a fixed order; where none is up yet, wait for the first.

        The time of the measurements starts to run when this returns.

        Raises:
            ProbeFailed: no GPU came up, or they are in use, or cannot be asked.
        """
        look: Any = ray.remote(num_cpus=0, num_gpus=SLICE)(facts_of)
        nodes = gpu_nodes(ray.nodes())
        if not nodes:
            self._wait([look.remote(self.device)], "no node with a GPU came up", self.limits.node_s)
            nodes = gpu_nodes(ray.nodes())
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote(
                self.device
            )
            for n in nodes
        ]
        facts = self._wait(asked, "the GPUs are in use", self.limits.free_s)
        found: dict[Gpu, Kind] = {}
        for node, gpu in sorted(
            zip(nodes, (Gpu(**f) for f in facts), strict=True), key=lambda pair: pair[0]["Resources"]["CPU"]
        ):
            allowed = copies_allowed(node["Resources"], self.cpus)
            # the poorest node decides on the number, the richest is measured on: there is room for them
            most = min(allowed, found[gpu].most) if gpu in found else allowed
            found[gpu] = Kind(gpu, node["NodeID"], most)
        self._deadline = time.monotonic() + self.limits.probe_s
        return sorted(found.values(), key=lambda kind: (kind.gpu.name, kind.gpu.memory, kind.gpu.mps))

    def types(self) -> list[str]:
        """Return Ray's names of the GPUs that are up."""
        return gpu_types(ray.nodes())

    def side_by_side(self, kind: Kind, method: str, configuration: Mapping[str, Any], way: Way) -> Measured:
        """Build so many processes on one device, then have all of them train for the same seconds.

        Raises:
            ProbeFailed: time was over, or one failed for another reason than memory.
        """
        copies = way.copies
        with self._device_of(kind, copies) as group:
            actors = self._actors(group, method, configuration, way)
            late = f"{way} {'was' if copies == 1 else 'were'} not ready in time"
            try:
                self._wait([actor.build.remote() for actor in actors], late)
                window = self.limits.window_s
                found = self._wait([actor.measure.remote(window) for actor in actors], late)
            except NoMemory:
                return Measured(copies, failure="out of memory", pack=way.pack)
            finally:
                for actor in actors:
                    ray.kill(actor)
        return Measured(
            copies,
            steps_per_s=sum(f["steps_per_s"] for f in found),
            peak=max(f["peak"] for f in found),
            outside=found[0]["outside"] if copies == 1 else 0,
            pack=way.pack,
            steps_per_epoch=found[0]["steps_per_epoch"],
            validation_s=max(f["validation_s"] for f in found),
        )

    def _actors(
        self, group: PlacementGroup, method: str, configuration: Mapping[str, Any], way: Way
    ) -> list[Any]:
        if self._shared is None:
            self._shared = ray.put(self.assets)
        place = PlacementGroupSchedulingStrategy(group, 0)
        kind: Any = ray.remote(Copy).options(
            num_cpus=self.cpus, num_gpus=1 / way.copies, scheduling_strategy=place
        )
        given = (method, dict(configuration), self._shared, self.device, way.pack)
        return [kind.remote(*given) for _ in range(way.copies)]

    @contextmanager
    def _device_of(self, kind: Kind, copies: int) -> Iterator[PlacementGroup]:
        """Reserve a whole GPU of a node, with the CPUs of so many trials."""
        group = placement_group(
            [{"GPU": 1, "CPU": copies * self.cpus}], bundle_label_selector=[{"ray.io/node-id": kind.node}]
        )
        try:
            self._wait([group.ready()], "no GPU became free", self.limits.free_s)
            yield group
        finally:
            remove_placement_group(group)

    def _wait(self, refs: Sequence[Any], late: str, seconds: float = math.inf) -> list[Any]:
        """Return the results of jobs in their order, looking out for signals.

        Raises:
            ProbeFailed: the deadline or so many seconds are over (`late` says what is missing), or a job failed.
            NoMemory: a job failed for that.
        """
        left, until = list(refs), min(self._deadline, time.monotonic() + seconds)
        try:
            while left:
                self.check()
                done, left = ray.wait(left, timeout=0.2)
                ray.get(done)
                if left and time.monotonic() > until:
                    raise ProbeFailed(late)
            return list(ray.get(list(refs)))
        except RayError as error:
            cause = getattr(error, "cause", None) or error
            raise (NoMemory if is_memory(cause) else ProbeFailed)(describe(cause)) from error


class NoMemory(ProbeFailed):
    """A copy ran out of memory, the device's or the node's."""


def is_memory(error: BaseException) -> bool:
    """Return whether a copy failed for want of memory; CUDA's own and Ray's refusals have types of their own."""
    text = str(error).lower()
    typed = isinstance(error, (MemoryError, OutOfMemoryError))
    return typed or "out of memory" in text or "low on memory" in text
