"""Ray actor that measures training speed and GPU memory of a trial or a pack; see `tuner.devices.sharing_probe`."""

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
from trainables.evaluation.attacks.image_batches import batch_size
from trainables.evaluation.measure import validate
from trainables.options.packing import unpackable
from trainables.packed import groups_of, stacked_epoch
from trainables.ray.assets import Assets
from trainables.ray.pack_runner import PackedTrialRunner
from trainables.ray.trial_runner import VALIDATION_SEED

WARM_UP_STEPS = 3  # the first chooses kernels and makes the optimiser's moments
MEMORY_STEP = (
    2**28
)  # total memory is rounded down to multiples, bytes: cards of one model differ by a few pages
MIN_STEPS = 3  # of a measurement, however slow a step is


class ProbeDevice(Protocol):
    """The device that is measured; sizes in bytes. Tests replace it."""

    def name(self) -> str: ...

    def total_memory(self) -> int: ...

    def peak_memory(self) -> int:
        """Return the most memory that this process's tensors have reserved since it started."""
        ...

    def outside_memory(self) -> int:
        """Return the memory in use on the device besides what this process's tensors reserve now."""
        ...

    def synchronize(self) -> None:
        """Wait for all queued work of the device."""
        ...


class CudaDevice:
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


def gpu_facts(device: ProbeDevice) -> dict[str, Any]:
    """Return the fields of `tuner.devices.sharing_policy.Gpu` for the device of this process."""
    return {
        "name": device.name(),
        "memory": device.total_memory() // MEMORY_STEP * MEMORY_STEP,
        "torch": torch.__version__,
        "mps": mps_is_running(),
    }


def mps_is_running() -> bool:
    """Return whether the daemon of NVIDIA's multi-process service runs here.

    Its pipe has to exist, and its process to live if the file with its number does: a killed daemon leaves the pipe.
    """
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    if not (folder / "control").exists():
        return False
    try:
        number = int((folder / "nvidia-cuda-mps-control.pid").read_text())
    except (OSError, ValueError):
        return True  # a version without that file
    return Path(f"/proc/{number}").exists()


class _StopTraining(Exception):
    """Raised between two steps to end the training of a measurement."""


class _MeasuredTrial(PackedTrialRunner):
    """A trial that trains for a number of steps or seconds."""

    def steps_per_epoch(self) -> int:
        """Return the steps of an epoch; 0 if unknown, since the method may have optimisers besides the trainer's."""
        method: Any = self._method
        return 0 if unpackable(self._name, method.options) else int(method.trainer.steps_per_epoch)

    def train(self, steps: int, seconds: float) -> int:
        """Train for at least `steps` steps and at least `seconds` seconds; return the steps taken.

        Steps of all optimisers count. A loss that is not finite ends an epoch, not the measurement: it costs the same.

        Raises:
            TrainingFailed: an epoch ended without a step.
        """
        assert self._method is not None
        taken, started = 0, time.perf_counter()

        def count(*_: Any) -> None:
            nonlocal taken
            taken += 1
            if taken >= steps and time.perf_counter() - started >= seconds:
                raise _StopTraining

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
        except _StopTraining:
            return taken
        finally:
            handle.remove()

    def validate_once(self, **changes: Any) -> float:
        """Validate on one full batch of every set, which takes as much memory as the whole validation.

        Args:
            changes: fields of the protocol to replace.

        Returns:
            Inlier images of the whole validation / those of this one.
        """
        method = self._method
        assert method is not None
        inliers = len(self._data.parts[Split.VAL_ID]["id"])
        total = min(self._protocol.max_images or inliers, inliers)
        batch = min(total, batch_size(method.device))
        generator = torch.Generator(method.device).manual_seed(VALIDATION_SEED)
        protocol = replace(self._protocol, max_images=batch, **changes)
        validate(method.classifier(), self._data, protocol, generator, method.device)
        return total / batch


class _MeasuredPack:
    """Equal trials in one process, trained stacked.

    Args:
        trials: not built yet.
    """

    def __init__(self, trials: Sequence[_MeasuredTrial]) -> None:
        self.trials = tuple(trials)

    def setup(self, configuration: dict[str, Any], assets: Assets) -> None:
        """Build all trials; they are equal, which costs as much as different values of the same shape.

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
        """Train for at least `steps` stacked steps and `seconds` seconds; return the steps summed over the trials."""
        taken, started = 0, time.perf_counter()
        while True:
            for _ in stacked_epoch(self._replicas)[1]:
                taken += 1
                if taken >= steps and time.perf_counter() - started >= seconds:
                    return taken * len(self.trials)


class ProbeActor:
    """Ray actor with one trial or a pack of equal trials, one of the processes that share a GPU in a measurement.

    Call `build` of all actors first, then `measure` of all at the same time.
    """

    def __init__(
        self, method: str, configuration: dict[str, Any], assets: Assets, device: ProbeDevice, pack: int = 1
    ) -> None:
        self._given, self._device, self._pack = (configuration, assets), device, pack
        # without a run folder it writes no checkpoints
        trial_class = type("Measured", (_MeasuredTrial,), {"method_name": method})
        self._first: _MeasuredTrial = trial_class()
        self._trained: _MeasuredTrial | _MeasuredPack = self._first
        if pack > 1:
            self._trained = _MeasuredPack([self._first, *(trial_class() for _ in range(pack - 1))])

    def build(self) -> None:
        """Build the trials as a study does, with the same limit on memory, and warm up."""
        self._trained.setup(*self._given)
        self._trained.train(WARM_UP_STEPS, 0.0)
        self._first.validate_once(steps=1, restarts=1)
        self._device.synchronize()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Train for some seconds, then validate a batch of every set; time both.

        Returns:
            The fields of `Measurement` in `tuner.devices.sharing_policy` as this process has them: "steps_per_s",
            "steps_per_epoch", "validation_s" (one batch's, for all images and trials), "peak" and "outside".
        """
        started = time.perf_counter()
        steps = self._trained.train(MIN_STEPS, seconds)
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
