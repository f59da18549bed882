"""Copies of a trial side by side on a Ray node with a pretended GPU: timed, full, failing, late, interrupted."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from tests.faults.bench import ray_here
from tests.integration.conftest import ROOT
from tests.unit.pretend_gpu import GIB, Pretend
from trainables.data.loading.open_dataset import load
from trainables.ray.assets import Assets
from trainables.ray.device import CUDA_CONTEXT_BYTES
from tuner.base.errors import Interrupted
from tuner.devices.ray_probe import RayProbeBackend
from tuner.devices.sharing_policy import Measurement, MeasurementCache, SharingLayout, choose
from tuner.devices.sharing_probe import Probe, ProbeFailed, ProbeTimeouts, costliest_options
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
WORKERS = {"PYTHONPATH": str(ROOT)}
QUICK = ProbeTimeouts(window_s=0.3)


@pytest.fixture(scope="module")
def plan() -> Plan:
    request = LaunchOptions("adversarial_baselines", settings=("attack.steps=2",))
    plan = resolve(request, "r", "c")
    return replace(plan, lanes=plan.lanes[:1])


@pytest.fixture(scope="module")
def assets(plan: Plan) -> Assets:
    return Assets(load(plan.dataset, "", search_only=True).for_search())


@pytest.fixture(scope="module")
def one_gpu() -> Iterator[None]:
    with ray_here(WORKERS, cpus=8, num_gpus=1):
        yield


def nothing() -> None:
    """Look for signals: there are none."""


def backend_of(
    assets: Assets, device: Pretend, limits: ProbeTimeouts = QUICK, check: Any = nothing
) -> tuple[RayProbeBackend, Any]:
    backend = RayProbeBackend(assets, 1, check, device, limits)
    (group,) = backend.gpu_groups()
    return backend, group


def all_given_back() -> bool:
    """Return whether every CPU and GPU is free again, soon."""
    for _ in range(100):
        if ray.available_resources().get("GPU") == 1 and ray.available_resources().get("CPU") == 8:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.usefixtures("one_gpu")
def test_one_two_four_and_eight_copies(plan: Plan, assets: Assets, tmp_path: Path) -> None:
    """The probe as a study runs it, then once more from memory."""
    plan = replace(plan, pack=1)
    backend = RayProbeBackend(assets, 1, nothing, Pretend(peak=GIB // 4), QUICK)
    cache = MeasurementCache(tmp_path / "gpu.json")
    found = Probe(plan, backend, cache).run()
    assert found.complete
    (entry,) = json.loads(cache.path.read_text()).values()
    measured = [Measurement(**m) for m in entry["measured"]]
    assert [m.copies for m in measured] == [1, 2, 4, 8]
    assert all(m.steps_per_s > 0 and m.peak == GIB // 4 and not m.failure for m in measured)
    assert [m.outside for m in measured] == [GIB, 0, 0, 0]
    assert found.gpu_share == 1 / choose(measured, 16 * GIB, max(GIB, CUDA_CONTEXT_BYTES)).copies
    assert all_given_back()
    started = time.monotonic()
    assert Probe(plan, backend, MeasurementCache(cache.path)).run() == found
    assert time.monotonic() - started < 30, "nothing was built"


@pytest.mark.usefixtures("one_gpu")
def test_packs_beside_processes(plan: Plan, assets: Assets, tmp_path: Path) -> None:
    """48 trials of a narrow network: the packs of 8 and 32 are measured too, and what is chosen is the fastest."""
    (lane,) = plan.lanes
    fixed = {**lane.fixed, "batch_size": 8}
    plan = replace(plan, lanes=(replace(lane, trials=48, fixed=fixed),))
    backend = RayProbeBackend(assets, 1, nothing, Pretend(peak=GIB // 4), QUICK)
    cache = MeasurementCache(tmp_path / "gpu.json")
    found = Probe(plan, backend, cache).run()
    assert found.complete, found.notes
    (entry,) = json.loads(cache.path.read_text()).values()
    measured = [Measurement(**m) for m in entry["measured"]]
    assert [m.layout for m in measured] == [
        SharingLayout(1, 1),
        SharingLayout(1, 2),
        SharingLayout(1, 4),
        SharingLayout(1, 8),
        SharingLayout(8, 1),
        SharingLayout(32, 1),
    ]
    assert len({m.steps_per_epoch for m in measured}) == 1
    assert all(m.steps_per_s > 0 and m.validation_s > 0 and m.steps_per_epoch > 0 for m in measured)
    best = choose(measured, 16 * GIB, max(GIB, CUDA_CONTEXT_BYTES))
    assert (found.gpu_share, found.pack) == ((1.0, best.pack) if best.pack > 1 else (1 / best.copies, 1))
    assert all_given_back()


@pytest.mark.usefixtures("one_gpu")
def test_packs_side_by_side(plan: Plan, assets: Assets) -> None:
    """Two processes of three trials each count six trials' steps."""
    backend, group = backend_of(assets, Pretend(peak=GIB // 4))
    one, two = (
        backend.measure(group, "pgd_at", costliest_options(plan.lanes[0], 0), SharingLayout(3, count))
        for count in (1, 2)
    )
    assert (one.layout, two.layout) == (SharingLayout(3, 1), SharingLayout(3, 2))
    assert (one.outside, two.outside) == (GIB, 0)
    full, group = backend_of(assets, Pretend(full_from=2))
    found = full.measure(group, "pgd_at", costliest_options(plan.lanes[0], 0), SharingLayout(3, 2))
    assert found == Measurement(2, failure="out of memory", pack=3)
    assert all_given_back()


@pytest.mark.usefixtures("one_gpu")
def test_copies_that_run_out_of_memory_do_not_fit(plan: Plan, assets: Assets) -> None:
    backend, group = backend_of(assets, Pretend(full_from=2))
    given = costliest_options(plan.lanes[0], 0)
    assert backend.measure(group, "pgd_at", given, SharingLayout(copies=2)) == Measurement(
        2, failure="out of memory"
    )
    assert all_given_back()


@pytest.mark.usefixtures("one_gpu")
def test_other_failures_and_lateness_are_said(plan: Plan, assets: Assets) -> None:
    given = costliest_options(plan.lanes[0], 0)
    backend, group = backend_of(assets, Pretend())
    with pytest.raises(ProbeFailed, match="lr"):
        backend.measure(group, "pgd_at", given | {"lr": "high"}, SharingLayout())
    backend, group = backend_of(assets, Pretend(slow_s=600), ProbeTimeouts(probe_s=8.0))
    started = time.monotonic()
    with pytest.raises(ProbeFailed, match="1 copy was not ready in time"):
        backend.measure(group, "pgd_at", given, SharingLayout())
    assert time.monotonic() - started < 30
    assert all_given_back()
    with pytest.raises(ProbeFailed, match="RuntimeError: no CUDA"):
        backend_of(assets, Pretend(error="no CUDA"))


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_in_use_is_not_waited_for_long(assets: Assets) -> None:
    holder: Any = ray.remote(num_gpus=1)(lambda: time.sleep(600)).remote()
    time.sleep(3)
    try:
        with pytest.raises(ProbeFailed, match="the GPUs are in use"):
            backend_of(assets, Pretend(), ProbeTimeouts(free_s=2.0))
    finally:
        ray.cancel(holder, force=True)
    assert all_given_back()


@pytest.mark.usefixtures("one_gpu")
def test_a_signal_ends_the_probe_and_gives_the_gpu_back(plan: Plan, assets: Assets) -> None:
    began: list[float] = []

    def interrupted() -> None:
        began.append(time.monotonic())
        if began[-1] - began[0] > 5:
            raise Interrupted(130)

    backend = RayProbeBackend(assets, 1, interrupted, Pretend(slow_s=600), QUICK)
    with pytest.raises(Interrupted):
        backend.measure(
            backend.gpu_groups()[0], "pgd_at", costliest_options(plan.lanes[0], 0), SharingLayout()
        )
    assert all_given_back()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("one_gpu")
def test_on_a_gpu(plan: Plan, assets: Assets, tmp_path: Path) -> None:
    """The numbers are the card's; that they were measured, fit and agree with the choice is ours."""
    cache = MeasurementCache(tmp_path / "gpu.json")
    found = Probe(plan, RayProbeBackend(assets, 1, nothing, limits=ProbeTimeouts(window_s=1.0)), cache).run()
    assert found.complete, found.notes
    (entry,) = json.loads(cache.path.read_text()).values()
    measured = [Measurement(**m) for m in entry["measured"]]
    assert all(m.failure or (m.steps_per_s > 0 and m.peak > 0) for m in measured)
    assert measured[0].outside > 0
    total = torch.cuda.get_device_properties(0).total_memory
    copies = round(1 / found.gpu_share)
    (taken,) = [m for m in measured if m.copies == copies]
    assert copies * taken.peak < total
