"""One copy of a trial that is measured instead of trained: its pace beside other copies, and its memory."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainables.base import VALIDATION_SEED, Assets, Trial
from trainables.errors import TrainingFailed
from trainables.evaluation.protocol import validate
from trainables.evaluation.robust import batch_size

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
    """Return the facts of `tuner.gpu.Gpu` on the device of this process."""
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


class _MeasuredTrial(Trial):
    """A trial that is trained by steps."""

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

    def validate_once(self) -> None:
        """Validate on one full batch of every set, with one step of every attack: as much memory as the whole."""
        method = self._method
        assert method is not None
        few = min(self._protocol.max_images or 10**9, batch_size(method.device))
        protocol = replace(self._protocol, max_images=few, steps=1, restarts=1)
        generator = torch.Generator(method.device).manual_seed(VALIDATION_SEED)
        validate(method.classifier(), self._data, protocol, generator, method.device)


class Copy:
    """One of several equal trials on a device; a Ray actor, whose calls come in this order: build, measure.

    Whoever calls `measure` of all copies at once, when all are built, measures them side by side.
    """

    def __init__(self, method: str, configuration: dict[str, Any], assets: Assets, device: Device) -> None:
        self._given, self._device = (configuration, assets), device
        # not told of a run folder, it neither writes nor reports
        self._trial: _MeasuredTrial = type("Measured", (_MeasuredTrial,), {"method_name": method})()

    def build(self) -> None:
        """Build the trial as a study does and warm it up; on a share of a GPU it is held to that share's memory."""
        self._trial.setup(*self._given)
        self._trial.train(WARM_UP_STEPS, 0.0)
        self._trial.validate_once()
        self._device.synchronize()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Train for so many seconds and return "steps_per_s", "peak" and "outside", see `tuner.gpu.Measured`."""
        started = time.perf_counter()
        steps = self._trial.train(LEAST_STEPS, seconds)
        self._device.synchronize()
        rate = steps / (time.perf_counter() - started)
        return {
            "steps_per_s": rate,
            "peak": self._device.peak_memory(),
            "outside": self._device.outside_memory(),
        }
