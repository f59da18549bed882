"""Ray backend of `sharing_probe`: places processes side by side on one GPU and times them.

A placement group reserves a whole GPU of a node, so that no other work runs on it.
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

from trainables.base.errors import describe_error
from trainables.ray.assets import Assets
from trainables.ray.throughput_probe import CudaDevice, ProbeActor, ProbeDevice, gpu_facts
from tuner.devices.resources import gpu_nodes, gpu_types, max_processes_per_gpu
from tuner.devices.sharing_policy import Gpu, Measurement, SharingLayout
from tuner.devices.sharing_probe import GpuGroup, ProbeFailed, ProbeTimeouts

INSPECTION_SHARE = 0.01  # of a GPU, for a task that only reads its properties


class RayProbeBackend:
    """Measures on the GPUs of the cluster that Ray is connected to.

    Args:
        assets: data and pretrained classifiers of the study.
        cpus: of each trial.
        check: called while waiting; raises what ends the study.
        device: where the actors read memory use; another than CudaDevice in tests.
    """

    def __init__(
        self,
        assets: Assets,
        cpus: int,
        check: Callable[[], None],
        device: ProbeDevice | None = None,
        timeouts: ProbeTimeouts | None = None,
    ) -> None:
        self.assets, self.cpus, self.check = assets, cpus, check
        self.device: ProbeDevice = device or CudaDevice()
        self.timeouts = timeouts or ProbeTimeouts()
        self._shared: Any = None  # the assets in Ray's store
        self._deadline = math.inf

    def gpu_groups(self) -> list[GpuGroup]:
        """Return the groups of equal GPUs among the nodes, in a fixed order; wait for the first GPU if none is up.

        `ProbeTimeouts.probe_s` counts from the return of this.

        Raises:
            ProbeFailed: no GPU came up, or they are in use, or cannot be asked.
        """
        look: Any = ray.remote(num_cpus=0, num_gpus=INSPECTION_SHARE)(gpu_facts)
        nodes = gpu_nodes(ray.nodes())
        if not nodes:
            self._wait([look.remote(self.device)], "no node with a GPU came up", self.timeouts.node_s)
            nodes = gpu_nodes(ray.nodes())
        tasks = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote(
                self.device
            )
            for n in nodes
        ]
        facts = self._wait(tasks, "the GPUs are in use", self.timeouts.free_s)
        groups: dict[Gpu, GpuGroup] = {}
        for node, gpu in sorted(
            zip(nodes, (Gpu(**f) for f in facts), strict=True), key=lambda pair: pair[0]["Resources"]["CPU"]
        ):
            allowed = max_processes_per_gpu(node["Resources"], self.cpus)
            # the node with fewest CPUs bounds the number; the one with most is measured on, so that they fit
            if gpu in groups:
                allowed = min(allowed, groups[gpu].max_processes)
            groups[gpu] = GpuGroup(gpu, node["NodeID"], allowed)
        self._deadline = time.monotonic() + self.timeouts.probe_s
        return sorted(groups.values(), key=lambda group: (group.gpu.name, group.gpu.memory, group.gpu.mps))

    def gpu_types(self) -> list[str]:
        """Return Ray's names of the GPUs that are up."""
        return gpu_types(ray.nodes())

    def measure(
        self, group: GpuGroup, method: str, configuration: Mapping[str, Any], layout: SharingLayout
    ) -> Measurement:
        """Build the processes of a layout on one GPU, then train and validate in all of them at the same time.

        Raises:
            ProbeFailed: a timeout, or a process failed for another reason than memory.
        """
        copies = layout.copies
        with self._reserved_gpu(group, copies) as reserved:
            actors = self._actors(reserved, method, configuration, layout)
            late = f"{layout} {'was' if copies == 1 else 'were'} not ready in time"
            try:
                self._wait([actor.build.remote() for actor in actors], late)
                window = self.timeouts.window_s
                results = self._wait([actor.measure.remote(window) for actor in actors], late)
            except OutOfMemory:
                return Measurement(copies, failure="out of memory", pack=layout.pack)
            finally:
                for actor in actors:
                    ray.kill(actor)
        return Measurement(
            copies,
            steps_per_s=sum(r["steps_per_s"] for r in results),
            peak=max(r["peak"] for r in results),
            outside=results[0]["outside"] if copies == 1 else 0,
            pack=layout.pack,
            steps_per_epoch=results[0]["steps_per_epoch"],
            validation_s=max(r["validation_s"] for r in results),
        )

    def _actors(
        self, reserved: PlacementGroup, method: str, configuration: Mapping[str, Any], layout: SharingLayout
    ) -> list[Any]:
        if self._shared is None:
            self._shared = ray.put(self.assets)
        place = PlacementGroupSchedulingStrategy(reserved, 0)
        actor: Any = ray.remote(ProbeActor).options(
            num_cpus=self.cpus, num_gpus=1 / layout.copies, scheduling_strategy=place
        )
        given = (method, dict(configuration), self._shared, self.device, layout.pack)
        return [actor.remote(*given) for _ in range(layout.copies)]

    @contextmanager
    def _reserved_gpu(self, group: GpuGroup, copies: int) -> Iterator[PlacementGroup]:
        """Reserve a whole GPU of a node, with the CPUs of so many trials."""
        reserved = placement_group(
            [{"GPU": 1, "CPU": copies * self.cpus}], bundle_label_selector=[{"ray.io/node-id": group.node_id}]
        )
        try:
            self._wait([reserved.ready()], "no GPU became free", self.timeouts.free_s)
            yield reserved
        finally:
            remove_placement_group(reserved)

    def _wait(self, refs: Sequence[Any], late: str, seconds: float = math.inf) -> list[Any]:
        """Return the results of tasks in their order; calls `check` meanwhile.

        Args:
            late: the message if the time is over.
            seconds: to wait at most; the deadline of the whole probe holds too.

        Raises:
            ProbeFailed: the time is over, or a task failed.
            OutOfMemory: a task ran out of memory.
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
            raise (OutOfMemory if is_out_of_memory(cause) else ProbeFailed)(describe_error(cause)) from error


class OutOfMemory(ProbeFailed):
    """A process ran out of memory, the device's or the node's."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a process failed for lack of memory: by the type of Python's or Ray's error, or by CUDA's text."""
    text = str(error).lower()
    typed = isinstance(error, (MemoryError, OutOfMemoryError))
    return typed or "out of memory" in text or "low on memory" in text
