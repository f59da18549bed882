"""What share of a GPU the trials of a study get: what is measured, what is remembered, what if it cannot be.

Every kind of device among the nodes is measured with the largest configuration of every lane. Ray takes one share for
a whole study, so the largest counts. `tuner.gpu` decides, `tuner.gpu_copies` measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trainables
from trainables.base import CUDA_CONTEXT_BYTES
from trainables.errors import InputError
from trainables.options import build
from trainables.options.schema import to_flat
from tuner import gpu
from tuner.gpu import COPIES, DoesNotFit, Gpu, Measured, Remembered
from tuner.largest import largest
from tuner.packing import pack_size
from tuner.plan import LanePlan, Plan
from tuner.resources import AUTO_GPU_FRACTION


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
        value: share of a GPU for each trial, in (0, 1].
        notes: lines for the user: what was measured, or why it was not.
        whole: everything was measured, so a resume need not ask again.
        types: Ray's names of the GPUs that were up.
    """

    value: float
    notes: tuple[str, ...]
    whole: bool
    types: Sequence[str] = ()


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
    """Who measures; see `tuner.gpu_copies.RayCopies`. Both methods that ask a device may raise ProbeFailed."""

    def kinds(self) -> list[Kind]: ...

    def types(self) -> Sequence[str]: ...

    def side_by_side(
        self, kind: Kind, method: str, configuration: Mapping[str, Any], copies: int
    ) -> Measured: ...


class Probe:
    """The probe of one study."""

    def __init__(self, plan: Plan, copies: Copies, remembered: Remembered) -> None:
        self.plan, self.copies, self.remembered = plan, copies, remembered
        self._notes: list[str] = []
        self._whole = True

    def run(self) -> Share:
        """Return the share that each trial gets; what cannot be measured costs a line and a quarter, not the study."""
        try:
            if pack_size(self.plan.pack) > 1:
                raise ProbeFailed("only trials in processes of their own are measured, not packs")
            kinds = self.copies.kinds()
        except ProbeFailed as error:
            return self._found(self._quarter("", error))
        share = 0.0
        for kind in kinds:
            for lane in self.plan.lanes:
                # more copies than those settled so far could not change the outcome
                most = min(kind.most, round(1 / share)) if share else kind.most
                share = max(share, self._share(kind, lane, most))
        if len(kinds) > 1:
            self._notes.append(f"{len(kinds)} kinds of GPU: every trial gets the largest share, {share:g}")
        return self._found(share)

    def _found(self, share: float) -> Share:
        return Share(share, tuple(dict.fromkeys(self._notes)), self._whole, self.copies.types())

    def _quarter(self, of: str, error: Exception) -> float:
        self._whole = False
        self._notes.append(f"GPU share {AUTO_GPU_FRACTION:g}{of}, which could not be measured: {error}")
        return AUTO_GPU_FRACTION

    def _share(self, kind: Kind, lane: LanePlan, most: int) -> float:
        """Return the share that a lane's trials get on a kind of GPU."""
        about = f" for {lane.method} on {kind.gpu}"
        try:
            configuration = settled(lane, self.plan.seed)
            about = f" for {lane.method} ({configuration['network']}) on {kind.gpu}"
            measured = self._measured(kind, lane.method, configuration, most)
            context = gpu.context_of(measured, CUDA_CONTEXT_BYTES)
            copies = gpu.choose(measured, kind.gpu.memory, context)
        except ProbeFailed as error:
            return self._quarter(about, error)
        except DoesNotFit as error:
            self._notes.append(f"GPU share 1{about}: {error}")
            return 1.0
        self._notes.append(f"GPU share {1 / copies:g}{about}: {gpu.describe(measured)}")
        return 1 / copies

    def _measured(
        self, kind: Kind, method: str, configuration: Mapping[str, Any], most: int
    ) -> list[Measured]:
        """Return the measurements of a configuration, remembered or made now.

        Raises:
            ProbeFailed: not even one copy was measured, for another reason than memory.
        """
        key = gpu.key_of(kind.gpu, method, configuration, self.plan.validation, most)
        known = self._recalled(key)
        if known is not None:
            return known
        found: list[Measured] = []
        given = {**configuration, "validation": dict(self.plan.validation)}
        for copies in (k for k in COPIES if k <= most):
            try:
                found.append(self.copies.side_by_side(kind, method, given, copies))
            except ProbeFailed as error:
                if not found:
                    raise
                self._whole = False
                self._notes.append(f"{copies} copies of {method} could not be measured: {error}")
                return found
            if found[-1].failure:
                break  # more would not fit either
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
        return to_flat(build(trainables.get(lane.method).load_options(), largest(lane, seed)))
    except InputError as error:
        raise ProbeFailed(f"the largest configuration is none: {error}") from error
