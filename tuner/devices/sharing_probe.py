"""How the trials of a study share GPUs: what is measured, what is remembered, what if it cannot be.

Every kind of device among the nodes is measured with the largest configuration of every lane. Ray takes one share for
a whole study, so the largest counts, and trials are packed only where that is faster for all of them. `sharing_policy`
decides, `ray_probe` measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainables.base.errors import InputError
from trainables.base.schema import to_flat
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.ray.trainable import CUDA_CONTEXT_BYTES
from tuner.devices import sharing_policy
from tuner.devices.costliest_config import largest
from tuner.devices.resources import AUTO_GPU_FRACTION
from tuner.devices.sharing_policy import PACKS, DoesNotFit, Gpu, Measured, Remembered, Way, ways_of
from tuner.planning.packability import lane_unpackable
from tuner.planning.plan import LanePlan, Plan


@dataclass(frozen=True)
class Limits:
    """Seconds that each part of a probe may take.

    Attributes:
        probe_s: all measurements together.
        node_s: until the first node with a GPU is up, where a cluster has to start one.
        free_s: until a GPU is free of other work.
        window_s: how long the copies of one measurement train side by side.
    """

    probe_s: float = 900.0
    node_s: float = 900.0
    free_s: float = 60.0
    window_s: float = 5.0


@dataclass(frozen=True)
class Share:
    """What the probe found.

    Attributes:
        value: share of a GPU for each process, in (0, 1].
        pack: trials at most in each process.
        alone: share for a process with one trial, where packs were chosen by their pace; else None.
        notes: lines for the user: what was measured, or why it was not.
        whole: everything was measured, so a resume need not ask again.
        types: Ray's names of the GPUs that were up.
    """

    value: float
    notes: tuple[str, ...]
    whole: bool
    types: Sequence[str] = ()
    pack: int = 1
    alone: float | None = None


@dataclass(frozen=True)
class Kind:
    """The nodes with one kind of GPU.

    Attributes:
        node: id of the one to measure on.
        most: copies for each of its GPUs that the CPUs of every such node allow, 1 or more.
    """

    gpu: Gpu
    node: str
    most: int


class ProbeFailed(Exception):
    """A measurement did not come about; one line says why."""


class Copies(Protocol):
    """Who measures; see `tuner.devices.ray_probe.RayCopies`. Both methods that ask a device may raise ProbeFailed."""

    def kinds(self) -> list[Kind]: ...

    def types(self) -> Sequence[str]: ...

    def side_by_side(
        self, kind: Kind, method: str, configuration: Mapping[str, Any], way: Way
    ) -> Measured: ...


class Probe:
    """The probe of one study.

    Args:
        workers: processes at a time if each has a whole GPU.
    """

    def __init__(self, plan: Plan, copies: Copies, remembered: Remembered, workers: int = 1) -> None:
        self.plan, self.copies, self.remembered, self.workers = plan, copies, remembered, workers
        self._notes: list[str] = []
        self._whole = True

    def run(self) -> Share:
        """Return what each process gets; what cannot be measured costs a line and a quarter, not the study."""
        wish = self.plan.pack
        try:
            kinds = self.copies.kinds()
        except ProbeFailed as error:
            return self._found(self._quarter("", error).value, wish or 1)
        share, packs = 0.0, self._packs()
        for kind in kinds:
            for lane in self.plan.lanes:
                # more processes than those settled so far could not change the outcome
                most = min(kind.most, round(1 / share)) if share else kind.most
                found = self._share(kind, lane, packs, most)
                share = max(share, found.value)
                packs = [pack for pack in packs if pack <= found.pack]
        if len(kinds) > 1:
            self._notes.append(f"{len(kinds)} kinds of GPU: every trial gets the largest share, {share:g}")
        if packs:
            self._notes.append(f"trials are packed: up to {packs[-1]} share a process, which has a whole GPU")
            return self._found(1.0, packs[-1], alone=share)
        return self._found(share, wish or 1)

    def _packs(self) -> list[int]:
        """Return the sizes of packs to measure beside single trials; none where the user has said what to do.

        The sampler has to have results before the last trials start. With all of 48 trials in training at once nothing
        is suggested from results, and the best of a search is worse; with two thirds of them it is not measurably
        (benchmarks/README.md).
        """
        if self.plan.pack is not None or any(map(lane_unpackable, self.plan.lanes)):
            return []
        room = min(lane.trials for lane in self.plan.lanes) * 2 // (3 * self.workers)
        return [pack for pack in PACKS if pack <= room]

    def _found(self, share: float, pack: int, alone: float | None = None) -> Share:
        notes = tuple(dict.fromkeys(self._notes))
        return Share(share, notes, self._whole, self.copies.types(), pack, alone)

    def _quarter(self, of: str, error: Exception) -> Share:
        self._whole = False
        self._notes.append(f"GPU share {AUTO_GPU_FRACTION:g}{of}, which could not be measured: {error}")
        return Share(AUTO_GPU_FRACTION, (), False)

    def _share(self, kind: Kind, lane: LanePlan, packs: Sequence[int], most: int) -> Share:
        """Return the share that a lane's processes get on a kind of GPU without `packs`, and the best pack.

        Args:
            packs: sizes to measure beside processes of one trial, or of as many as the user wants.
        """
        about = f" for {lane.method} on {kind.gpu}"
        least = 1 if lane_unpackable(lane) else self.plan.pack or 1
        try:
            configuration = settled(lane, self.plan.seed)
            about = f" for {lane.method} ({configuration['network']}) on {kind.gpu}"
            measured = self._measured(kind, lane.method, configuration, ways_of([least, *packs], most))
            context = sharing_policy.context_of(measured, CUDA_CONTEXT_BYTES)
            plain = sharing_policy.choose((m for m in measured if m.pack == least), kind.gpu.memory, context)
            best = sharing_policy.choose(measured, kind.gpu.memory, context)
        except ProbeFailed as error:
            return self._quarter(about, error)
        except DoesNotFit as error:
            self._notes.append(f"GPU share 1{about}: {error}")
            return Share(1.0, (), True)
        result = f"GPU share {1 / plain.copies:g}"
        if best.pack > plain.pack:
            result = f"{best.way} (without packs {result})"
        self._notes.append(f"{result}{about}: {sharing_policy.describe(measured)}")
        return Share(1 / plain.copies, (), True, pack=best.pack)

    def _measured(
        self, kind: Kind, method: str, configuration: Mapping[str, Any], ways: Sequence[Way]
    ) -> list[Measured]:
        """Return the measurements of a configuration, remembered or made now.

        Raises:
            ProbeFailed: not even the first was made, for another reason than memory.
        """
        key = sharing_policy.key_of(kind.gpu, method, configuration, self.plan.validation, ways)
        known = self._recalled(key)
        if known is not None:
            return known
        found: list[Measured] = []
        given = {**configuration, "validation": dict(self.plan.validation)}
        for way in ways:
            if any(m.failure and m.pack <= way.pack and m.copies <= way.copies for m in found):
                continue  # more would not fit either
            try:
                found.append(self.copies.side_by_side(kind, method, given, way))
            except ProbeFailed as error:
                if not found:
                    raise
                self._whole = False
                self._notes.append(f"{way} of {method} could not be measured: {error}")
                return found
        self.remembered.put(key, found, {"gpu": str(kind.gpu), "method": method, "configuration": given})
        self._note_problem()
        return found

    def _recalled(self, key: str) -> list[Measured] | None:
        known = self.remembered.get(key)
        self._note_problem()
        return known

    def _note_problem(self) -> None:
        if self.remembered.problem:
            self._notes.append(self.remembered.problem)
            self.remembered.problem = ""


def settled(lane: LanePlan, seed: int) -> dict[str, Any]:
    """Return every option of a lane's largest configuration, defaults too: {dotted name: value}.

    Raises:
        ProbeFailed: its values do not go together.
    """
    try:
        return to_flat(build(METHODS[lane.method].options, largest(lane, seed)))
    except InputError as error:
        raise ProbeFailed(f"the largest configuration is none: {error}") from error
