"""Probe that measures how many trials can share a GPU and chooses the share for a study.

Each group of equal GPUs is measured with the costliest configuration of every lane. Ray uses one share for the whole
study, so the largest share counts, and trials are packed only if packs are faster for every lane on every group. The
choice itself is in `sharing_policy`, the measuring in `ray_probe`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainables.base.errors import InputError
from trainables.base.schema import to_flat
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.ray.device import CUDA_CONTEXT_BYTES
from tuner.devices import sharing_policy
from tuner.devices.costliest_config import costliest_configuration
from tuner.devices.resources import AUTO_GPU_FRACTION
from tuner.devices.sharing_policy import (
    PACKS,
    DoesNotFit,
    Gpu,
    Measurement,
    MeasurementCache,
    SharingLayout,
    layouts_to_measure,
)
from tuner.planning.packability import lane_unpackable
from tuner.planning.plan import LanePlan, Plan


@dataclass(frozen=True)
class ProbeTimeouts:
    """Time limits of a probe, in seconds.

    Attributes:
        probe_s: all measurements together.
        node_s: wait for the first node with a GPU, where a cluster has to start one.
        free_s: wait for a GPU that is free of other work.
        window_s: training time of one measurement.
    """

    probe_s: float = 900.0
    node_s: float = 900.0
    free_s: float = 60.0
    window_s: float = 5.0


@dataclass(frozen=True)
class ProbeResult:
    """The share and pack size that a probe chose.

    Attributes:
        gpu_share: share of a GPU for each process, in (0, 1].
        notes: lines for the user: what was measured, or why it was not.
        complete: everything was measured, so a resume need not measure again.
        gpu_types: Ray's names of the GPUs that were up.
        pack: most trials in one process.
        single_trial_share: share for a process with one trial, if the probe chose packs; else None.
    """

    gpu_share: float
    notes: tuple[str, ...]
    complete: bool
    gpu_types: Sequence[str] = ()
    pack: int = 1
    single_trial_share: float | None = None


@dataclass(frozen=True)
class GpuGroup:
    """The nodes whose GPUs are equal.

    Attributes:
        node_id: Ray's id of the node to measure on.
        max_processes: processes per GPU that the CPUs of every such node allow, at least 1.
    """

    gpu: Gpu
    node_id: str
    max_processes: int


class ProbeFailed(Exception):
    """A measurement could not be made; the message is one line for the user."""


class ProbeBackend(Protocol):
    """What runs the measurements: `tuner.devices.ray_probe.RayProbeBackend`, a fake in tests.

    `gpu_groups` and `measure` may raise ProbeFailed.
    """

    def gpu_groups(self) -> list[GpuGroup]: ...

    def gpu_types(self) -> Sequence[str]: ...

    def measure(
        self, group: GpuGroup, method: str, configuration: Mapping[str, Any], layout: SharingLayout
    ) -> Measurement: ...


class Probe:
    """The probe of one study.

    Args:
        cache: measurements of earlier runs.
        workers: processes at a time if each has a whole GPU.
    """

    def __init__(self, plan: Plan, backend: ProbeBackend, cache: MeasurementCache, workers: int = 1) -> None:
        self.plan, self.backend, self.cache, self.workers = plan, backend, cache, workers
        self._notes: list[str] = []
        self._complete = True

    def run(self) -> ProbeResult:
        """Return the share and pack of each process; where measuring fails, a default share and a note."""
        requested_pack = self.plan.pack or 1
        try:
            groups = self.backend.gpu_groups()
        except ProbeFailed as error:
            return self._result(self._fallback_share("", error).gpu_share, requested_pack)
        share, packs = 0.0, self._pack_sizes()
        for group in groups:
            for lane in self.plan.lanes:
                # the largest share counts: more processes than the smallest number so far need no measuring
                limit = min(group.max_processes, round(1 / share)) if share else group.max_processes
                result = self._measure_lane(group, lane, packs, limit)
                share = max(share, result.gpu_share)
                packs = [pack for pack in packs if pack <= result.pack]
        if len(groups) > 1:
            self._notes.append(f"{len(groups)} kinds of GPU: every trial gets the largest share, {share:g}")
        if packs:
            self._notes.append(f"trials are packed: up to {packs[-1]} share a process, which has a whole GPU")
            return self._result(1.0, packs[-1], single_trial_share=share)
        return self._result(share, requested_pack)

    def _pack_sizes(self) -> list[int]:
        """Return the pack sizes to measure besides single trials; none if the user gave `--pack`.

        At most two thirds of a lane's trials may be in training at once, since the sampler learns only from trials that
        have reported: with all of 48 at once the best trial is worse, with two thirds not measurably
        (benchmarks/README.md).
        """
        if self.plan.pack is not None or any(map(lane_unpackable, self.plan.lanes)):
            return []
        room = min(lane.trials for lane in self.plan.lanes) * 2 // (3 * self.workers)
        return [pack for pack in PACKS if pack <= room]

    def _result(self, share: float, pack: int, single_trial_share: float | None = None) -> ProbeResult:
        notes = tuple(dict.fromkeys(self._notes))
        return ProbeResult(share, notes, self._complete, self.backend.gpu_types(), pack, single_trial_share)

    def _fallback_share(self, subject: str, error: Exception) -> ProbeResult:
        self._complete = False
        self._notes.append(f"GPU share {AUTO_GPU_FRACTION:g}{subject}, which could not be measured: {error}")
        return ProbeResult(AUTO_GPU_FRACTION, (), False)

    def _measure_lane(
        self, group: GpuGroup, lane: LanePlan, packs: Sequence[int], max_processes: int
    ) -> ProbeResult:
        """Return the share of a lane's processes on a group of GPUs without `packs`, and the best pack.

        Args:
            packs: pack sizes to measure besides processes of one trial, or of `--pack` trials.
        """
        subject = f" for {lane.method} on {group.gpu}"
        base_pack = 1 if lane_unpackable(lane) else self.plan.pack or 1
        try:
            configuration = costliest_options(lane, self.plan.seed)
            subject = f" for {lane.method} ({configuration['network']}) on {group.gpu}"
            layouts = layouts_to_measure([base_pack, *packs], max_processes)
            measurements = self._measure_layouts(group, lane.method, configuration, layouts)
            context = sharing_policy.context_bytes(measurements, CUDA_CONTEXT_BYTES)
            unpacked = [m for m in measurements if m.pack == base_pack]
            plain = sharing_policy.choose(unpacked, group.gpu.memory, context)
            best = sharing_policy.choose(measurements, group.gpu.memory, context)
        except ProbeFailed as error:
            return self._fallback_share(subject, error)
        except DoesNotFit as error:
            self._notes.append(f"GPU share 1{subject}: {error}")
            return ProbeResult(1.0, (), True)
        result = f"GPU share {1 / plain.copies:g}"
        if best.pack > plain.pack:
            result = f"{best.layout} (without packs {result})"
        self._notes.append(f"{result}{subject}: {sharing_policy.describe_measurements(measurements)}")
        return ProbeResult(1 / plain.copies, (), True, pack=best.pack)

    def _measure_layouts(
        self, group: GpuGroup, method: str, configuration: Mapping[str, Any], layouts: Sequence[SharingLayout]
    ) -> list[Measurement]:
        """Return the measurements of a configuration, from the cache or made now.

        Raises:
            ProbeFailed: the first one failed, for another reason than memory.
        """
        key = sharing_policy.measurement_key(group.gpu, method, configuration, self.plan.validation, layouts)
        cached = self.cache.get(key)
        self._note_cache_problem()
        if cached is not None:
            return cached
        measurements: list[Measurement] = []
        given = {**configuration, "validation": dict(self.plan.validation)}
        for layout in layouts:
            if any(m.failure and m.pack <= layout.pack and m.copies <= layout.copies for m in measurements):
                continue  # more would not fit either
            try:
                measurements.append(self.backend.measure(group, method, given, layout))
            except ProbeFailed as error:
                if not measurements:
                    raise
                self._complete = False
                self._notes.append(f"{layout} of {method} could not be measured: {error}")
                return measurements
        about = {"gpu": str(group.gpu), "method": method, "configuration": given}
        self.cache.put(key, measurements, about)
        self._note_cache_problem()
        return measurements

    def _note_cache_problem(self) -> None:
        if self.cache.problem:
            self._notes.append(self.cache.problem)
            self.cache.problem = ""


def costliest_options(lane: LanePlan, seed: int) -> dict[str, Any]:
    """Return every option of a lane's costliest configuration, defaults included: {dotted name: value}.

    Raises:
        ProbeFailed: the costliest values exclude each other.
    """
    try:
        return to_flat(build(METHODS[lane.method].options, costliest_configuration(lane, seed)))
    except InputError as error:
        raise ProbeFailed(f"the largest configuration is not allowed: {error}") from error
