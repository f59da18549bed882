"""The device of a process that Ray has started, and how much of a GPU's memory it may take.

Torch is imported when a device is chosen: the driver, which asks for the constant alone, has none.
"""

from typing import TYPE_CHECKING

from trainables.base.errors import InputError

if TYPE_CHECKING:
    import torch

CUDA_CONTEXT_BYTES = 600 * 2**20  # memory of a process on a GPU before its first tensor


def choose_device(wanted: str) -> "torch.device":
    """Return the trial's device: a GPU only if Ray assigned one to the process (or Ray is not running).

    On a share of a GPU the process may allocate that share of its memory, so that a trial that needs more fails alone.

    Raises:
        InputError: device=cuda without a GPU.
    """
    import torch

    if wanted == "cpu" or not torch.cuda.is_available():
        if wanted == "cuda":
            raise InputError("device is cuda but no GPU is visible here; use device=auto or cpu")
        return torch.device("cpu")
    import ray

    if ray.is_initialized() and not ray.get_gpu_ids() and wanted == "auto":
        return torch.device("cpu")
    if ray.is_initialized() and ray.get_gpu_ids():
        share = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share))
    return torch.device("cuda")


def gpu_share(device: "torch.device") -> float:
    """Return how many GPUs Ray assigned to this process, a fraction for a share; 1 outside of Ray, 0 on the CPU."""
    if device.type != "cuda":
        return 0.0
    import ray

    if not ray.is_initialized():
        return 1.0
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))


def memory_fraction(share: float) -> float:
    """Return the fraction of a GPU's memory for tensors: the share minus the CUDA context, at least half the share."""
    if share >= 1:
        return 1.0
    import torch

    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return max(share / 2, share - CUDA_CONTEXT_BYTES / total)
