"""Does the service share a GPU well? Its probe decides, then every layout is measured again, by turns.

    python benchmarks/choice.py                 # on this machine's GPU
    python benchmarks/choice.py --pretend 2     # on so many CPU cores in its place

A row is a layout, in epochs of trials per minute: as the probe saw it and as the rounds after it found it
(median). "Of the best" is the chosen layout beside the best of these rounds; it was not chosen by them.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from alternate import machine, table

from trainables.data.loading.open_dataset import load
from trainables.ray.assets import Assets
from trainables.ray.device import CUDA_CONTEXT_BYTES
from trainables.ray.throughput_probe import CudaDevice, ProbeDevice
from tuner.base import environment
from tuner.devices.ray_probe import RayProbeBackend
from tuner.devices.sharing_policy import Measurement, MeasurementCache, SharingLayout, context_bytes, fits
from tuner.devices.sharing_probe import GpuGroup, Probe, ProbeTimeouts
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve

HEADING = ["network", "trials share the device as", "epochs/min, probe", "epochs/min, again", "of the best"]


class Cores:
    """The CPU in place of a GPU, with memory for whatever comes."""

    def name(self) -> str:
        return "CPU"

    def total_memory(self) -> int:
        return 2**40

    def peak_memory(self) -> int:
        return 0

    def outside_memory(self) -> int:
        return 0

    def synchronize(self) -> None:
        """Everything is done when the call returns."""


class Noted(RayProbeBackend):
    """Notes what is measured, and of what."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.seen: list[Measurement] = []

    def measure(
        self, group: GpuGroup, method: str, configuration: Mapping[str, Any], layout: SharingLayout
    ) -> Measurement:
        self.of = (group, method, configuration)
        self.seen.append(super().measure(group, method, configuration, layout))
        return self.seen[-1]


def plan_of(network: str, trials: int, device: str) -> Plan:
    """Return PGD-AT's lane of `adversarial_baselines` on the digits with so many trials."""
    settings = (f"network={network}", f"device={device}")
    plan = resolve(LaunchOptions("adversarial_baselines", settings=settings), "choice", "choice")
    return replace(plan, lanes=(replace(plan.lanes[0], trials=trials),))


@contextmanager
def one_device(cores: int) -> Iterator[ProbeDevice]:
    """Start Ray with one GPU; with so many cores in its place, 0 for a real one."""
    environment.apply_defaults()
    if cores:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray would find that it has no GPU to give
    session = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # Ray's sockets need a short path
    given: dict[str, Any] = {"num_cpus": cores} if cores else {}
    try:
        ray.init(num_gpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=session, **given)
        yield Cores() if cores else CudaDevice()
    finally:
        ray.shutdown()
        shutil.rmtree(session, ignore_errors=True)


def compared(network: str, device: ProbeDevice, trials: int, rounds: int, window_s: float) -> list[list[str]]:
    """Return the rows of a network."""
    plan = plan_of(network, trials, "cpu" if isinstance(device, Cores) else "cuda")
    assets = Assets(load(plan.dataset, "", search_only=True).for_search())
    backend = Noted(assets, 1, lambda: None, device, ProbeTimeouts(window_s=window_s))
    with tempfile.TemporaryDirectory() as folder:
        share = Probe(plan, backend, MeasurementCache(Path(folder) / "probe.json")).run()
    print("\n".join(share.notes), flush=True)
    seen, of = tuple(backend.seen), backend.of
    again: dict[SharingLayout, list[Measurement]] = {m.layout: [] for m in seen if not m.failure}
    for number in range(rounds):
        for layout in list(again)[:: 1 if number % 2 else -1]:
            again[layout].append(backend.measure(*of, layout))
    context = context_bytes(seen, CUDA_CONTEXT_BYTES)
    paces = {layout: statistics.median(m.pace for m in found) * 60 for layout, found in again.items()}
    best = max(paces[m.layout] for m in seen if fits(m, of[0].gpu.memory, context))
    chosen = SharingLayout(share.pack, round(1 / share.gpu_share))
    return [
        [
            network,
            f"{m.layout}{', chosen' if m.layout == chosen else ''}",
            f"{m.pace * 60:.1f}",
            f"{paces[m.layout]:.1f}" if m.layout in paces else "does not fit",
            f"{100 * paces[m.layout] / best:.0f} %" if m.layout == chosen else "",
        ]
        for m in seen
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", default="small_cnn,mobilenet_v3_small,wrn_40_2")
    parser.add_argument("--trials", type=int, default=48, help="of the study that is to be")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=5.0, help="seconds of training in each measurement")
    parser.add_argument("--pretend", type=int, default=0, metavar="CORES")
    options = parser.parse_args()
    if not options.pretend and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --pretend 2 takes two CPU cores in its place")
    print(machine("torch", "ray").replace(", one thread", ""), flush=True)
    with one_device(options.pretend) as device:
        rows = [HEADING]
        for network in options.networks.split(","):
            rows += compared(network, device, options.trials, options.rounds, options.window)
    print(table(rows))


if __name__ == "__main__":
    main()
