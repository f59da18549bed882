"""Records the load of the driver's machine under the metric names of MLflow's system-metrics page."""

import threading
import time
from collections.abc import Callable
from typing import Any

from tuner.tracking.tracker import Tracker


class SystemMetrics:
    """Samples CPU, memory, disk, network and GPUs of this machine into the study's run until stopped.

    Steps count intervals since the run was created, so a resume continues after the steps that are stored.

    Args:
        since: when the run was created, in seconds since 1970.
        interval_s: between samples.
    """

    def __init__(self, tracker: Tracker, since: float, interval_s: float = 10.0) -> None:
        self._tracker, self._since, self._interval_s = tracker, since, interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Start sampling; the thread dies with the process."""
        self._thread.start()

    def stop(self) -> None:
        """End sampling; does not wait."""
        self._ended.set()

    def _loop(self) -> None:
        monitors = _monitors()
        collect(monitors)  # psutil measures the CPU since the last call: the first one means nothing
        while not self._ended.wait(self._interval_s):
            now = time.time()
            step = max(0, int((now - self._since) / self._interval_s))
            self._tracker.metrics("", step, collect(monitors), int(now * 1000))


def _monitors() -> list[Any]:
    """Return MLflow's own monitors; the GPU one only where there are NVIDIA GPUs and `nvidia-ml-py` is installed."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    kinds: list[Callable[[], Any]] = [CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor]
    found = []
    for kind in kinds:
        try:
            found.append(kind())
        except (ImportError, RuntimeError, OSError):  # no GPU or no library; no such counters in a container
            continue
    return found


def collect(monitors: list[Any]) -> dict[str, float]:
    """Return one sample, {"system/...": value}."""
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.clear_metrics()
        monitor.collect_metrics()
        values |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
    return values
