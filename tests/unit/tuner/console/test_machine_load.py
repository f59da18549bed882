"""The line on this machine's load: from counters that are given, and from this machine's own."""

import re
from types import SimpleNamespace
from typing import Any

from tuner.console.machine_load import GIB, MachineLoad


class Nvml:
    """Two GPUs, of which the second says nothing."""

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        if number:
            raise self.NVMLError
        return number

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=4 * GIB, total=139 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=81)


def test_words() -> None:
    load = MachineLoad()
    load._nvml = Nvml()
    load._psutil = SimpleNamespace(  # type: ignore[assignment]
        cpu_percent=lambda interval: 93.4,
        cpu_count=lambda: 2,
        virtual_memory=lambda: SimpleNamespace(total=16 * GIB, available=12.9 * GIB),
    )
    gpu = "GPU 0 81 %, 4.0 of 139 GiB"
    assert load.text() == f"memory 3.1 of 16 GiB, {gpu}"  # CPUs are measured since the call before
    assert load.text() == f"CPU 93 % of 2, memory 3.1 of 16 GiB, {gpu}"


def test_this_machine() -> None:
    load = MachineLoad()
    load.text()
    assert re.match(r"CPU \d+ % of \d+, memory \d+\.\d of \d+ GiB", load.text())
