"""A process of trials that are measured instead of trained: their pace beside other processes, and their memory."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainables.base.errors import TrainingFailed
from trainables.data.types.splits import Split
from trainables.evaluation.attacks.robust import batch_size
from trainables.evaluation.measure import validate
from trainables.options.packing import unpackable
from trainables.packed import groups_of, stacked_epoch
from trainables.ray.packed_trainable import PackedTrial
from trainables.ray.trainable import VALIDATION_SEED, Assets

WARM_UP_STEPS = 3  # the first chooses kernels and makes the optimiser's moments
ROUNDED = 2**28  # bytes: cards of one kind differ by a few pages
LEAST_STEPS = 3  # of a measurement, however slow a step is


class Device(Protocol):
    """What a measurement asks of the device that a copy trains on; sizes in bytes."""

    def name(self) -> str: ...

    def total_memory(self) -> int: ...

    def peak_memory(self) -> int:
        """Return the most that this process's tensors have reserved since it started."""
        ...

    def outside_memory(self) -> int:
        """Return what is in use on the device beside what this process's tensors have reserved now."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        ...


class Cuda:
    """The GPU that Ray gave this process."""

    def name(self) -> str:
        return torch.cuda.get_device_name()

    def total_memory(self) -> int:
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)

    def peak_memory(self) -> int:
        return int(torch.cuda.max_memory_reserved())

    def outside_memory(self) -> int:
        free, total = torch.cuda.mem_get_info()
        return int(total - free - torch.cuda.memory_reserved())

    def synchronize(self) -> None:
        torch.cuda.synchronize()


def facts_of(device: Device) -> dict[str, Any]:
    """Return the facts of `tuner.devices.sharing_policy.Gpu` on the device of this process."""
    return {
        "name": device.name(),
        "memory": device.total_memory() // ROUNDED * ROUNDED,
        "torch": torch.__version__,
        "mps": mps_runs(),
    }


def mps_runs() -> bool:
    """Return whether the daemon of NVIDIA's multi-process service runs here, by the pipe that its clients use.

    A daemon that was killed leaves its pipe; the file with its process number tells.
    """
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    if not (folder / "control").exists():
        return False
    try:
        number = int((folder / "nvidia-cuda-mps-control.pid").read_text())
    except (OSError, ValueError):
        return True  # another version's files: the pipe alone has to do
    return Path(f"/proc/{number}").exists()


class _Enough(Exception):
    """Ends an epoch between two steps."""


class _MeasuredTrial(PackedTrial):
    """A trial that is trained by steps."""

    def steps_per_epoch(self) -> int:
        """Return the steps of an epoch, 0 where other optimisers may take steps beside the trainer's."""
        method: Any = self._method
        return 0 if unpackable(self._name, method.options) else int(method.trainer.steps_per_epoch)

    def train(self, steps: int, seconds: float) -> int:
        """Train for so many steps and so many seconds, whichever is more, and return the steps taken.

        Steps are those of any optimiser. A loss that is not finite is no reason to stop: it costs the same.

        Raises:
            TrainingFailed: an epoch ends without a step.
        """
        assert self._method is not None
        taken, started = 0, time.perf_counter()

        def count(*_: Any) -> None:
            nonlocal taken
            taken += 1
            if taken >= steps and time.perf_counter() - started >= seconds:
                raise _Enough

        handle = register_optimizer_step_post_hook(count)
        try:
            while True:
                before = taken
                try:
                    self._method.train_epoch(0)
                except TrainingFailed:
                    if taken == before:
                        raise
                if taken == before:
                    raise TrainingFailed("an epoch took no optimiser step, so there is nothing to measure")
        except _Enough:
            return taken
        finally:
            handle.remove()

    def validate_once(self, **changes: Any) -> float:
        """Validate on one full batch of every set, which takes as much memory as the whole.

        Args:
            changes: of the protocol.

        Returns:
            How many times as many images of the inliers the whole validation has.
        """
        method = self._method
        assert method is not None
        inliers = len(self._data.parts[Split.VAL_ID]["id"])
        whole = min(self._protocol.max_images or inliers, inliers)
        few = min(whole, batch_size(method.device))
        generator = torch.Generator(method.device).manual_seed(VALIDATION_SEED)
        protocol = replace(self._protocol, max_images=few, **changes)
        validate(method.classifier(), self._data, protocol, generator, method.device)
        return whole / few


class _MeasuredPack:
    """Equal trials in one process, trained stacked.

    Args:
        trials: with nothing built yet.
    """

    def __init__(self, trials: Sequence[_MeasuredTrial]) -> None:
        self.trials = tuple(trials)

    def setup(self, configuration: dict[str, Any], assets: Assets) -> None:
        """Build all; they differ in nothing, which costs as much as if they did.

        Raises:
            TrainingFailed: they cannot be stacked.
        """
        for trial in self.trials:
            trial.setup(configuration, assets)
            trial.share_images(self.trials[0])
        self._replicas = [trial.replica() for trial in self.trials]
        if len(groups_of(self._replicas)) > 1:
            raise TrainingFailed("trials of the largest configuration cannot be stacked")

    def train(self, steps: int, seconds: float) -> int:
        """Train for so many stacked steps and so many seconds, whichever is more, and return the trials' steps."""
        taken, started = 0, time.perf_counter()
        while True:
            for _ in stacked_epoch(self._replicas)[1]:
                taken += 1
                if taken >= steps and time.perf_counter() - started >= seconds:
                    return taken * len(self.trials)


class Copy:
    """One process of several on a device, with a trial or a pack of equal ones; a Ray actor.

    Its calls come in this order: build, measure. Whoever calls `measure` of all copies at once, when all are built,
    measures them side by side.
    """

    def __init__(
        self, method: str, configuration: dict[str, Any], assets: Assets, device: Device, pack: int = 1
    ) -> None:
        self._given, self._device, self._pack = (configuration, assets), device, pack
        # not told of a run folder, it neither writes nor reports
        kind = type("Measured", (_MeasuredTrial,), {"method_name": method})
        self._first: _MeasuredTrial = kind()
        self._trained: _MeasuredTrial | _MeasuredPack = self._first
        if pack > 1:
            self._trained = _MeasuredPack([self._first, *(kind() for _ in range(pack - 1))])

    def build(self) -> None:
        """Build the trials as a study does and warm up; on a share of a GPU they are held to that share's memory."""
        self._trained.setup(*self._given)
        self._trained.train(WARM_UP_STEPS, 0.0)
        self._first.validate_once(steps=1, restarts=1)
        self._device.synchronize()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Train for so many seconds, then validate a batch of every set, both timed.

        Returns:
            The fields of `Measured` in `tuner.devices.sharing_policy` as this process has them: "steps_per_s",
            "steps_per_epoch", "validation_s" (one batch's, for all images and trials), "peak" and "outside".
        """
        started = time.perf_counter()
        steps = self._trained.train(LEAST_STEPS, seconds)
        self._device.synchronize()
        trained = time.perf_counter()
        batches = self._first.validate_once()
        self._device.synchronize()
        validated = time.perf_counter()
        return {
            "steps_per_s": steps / (trained - started),
            "steps_per_epoch": self._first.steps_per_epoch(),
            "validation_s": (validated - trained) * batches * self._pack,
            "peak": self._device.peak_memory(),
            "outside": self._device.outside_memory(),
        }
