"""The load of this machine in one line: CPUs, memory, and GPUs where NVIDIA's library is installed."""

import contextlib
from typing import Any

GIB = 2**30


class MachineLoad:
    """Measures since the call before; the first call means nothing of the CPUs and leaves them out."""

    def __init__(self) -> None:
        import psutil

        self._psutil, self._asked = psutil, False
        self._nvml: Any = None
        with contextlib.suppress(ImportError):
            import pynvml

            with contextlib.suppress(pynvml.NVMLError):  # no driver: a machine without a GPU
                pynvml.nvmlInit()
                self._nvml = pynvml

    def text(self) -> str:
        """Return "CPU 93 % of 2, memory 3.1 of 16 GiB, GPU 0 81 %, 4.0 of 139 GiB"."""
        psutil = self._psutil
        used, memory = psutil.cpu_percent(interval=None), psutil.virtual_memory()
        parts = [f"CPU {used:.0f} % of {psutil.cpu_count()}"] if self._asked else []
        self._asked = True
        parts.append(f"memory {(memory.total - memory.available) / GIB:.1f} of {memory.total / GIB:.0f} GiB")
        return ", ".join([*parts, *self._gpus()])

    def _gpus(self) -> list[str]:
        nvml, found = self._nvml, []
        for number in range(nvml.nvmlDeviceGetCount() if nvml else 0):
            with contextlib.suppress(nvml.NVMLError):  # a GPU of another user's container, or a MIG parent
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                load = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                found.append(
                    f"GPU {number} {load} %, {memory.used / GIB:.1f} of {memory.total / GIB:.0f} GiB"
                )
        return found
