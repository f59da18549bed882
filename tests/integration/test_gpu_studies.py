"""The GPU share of whole studies, and on a cluster of several kinds of GPU; the GPUs are pretended, Ray is real."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.faults.bench import ray_here
from tests.integration.conftest import ROOT, Launcher
from tests.unit.pretend_gpu import Pretend
from trainables.data.loading.open_dataset import load
from trainables.ray.assets import Assets
from tuner.devices.ray_probe import RayProbeBackend
from tuner.devices.sharing_policy import MeasurementCache, SharingLayout
from tuner.devices.sharing_probe import Probe, ProbeTimeouts, costliest_options
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
WORKERS = {"PYTHONPATH": str(ROOT)}
QUICK = ProbeTimeouts(window_s=0.3)

ONE = ("--trials", "1")
SMALL = [
    *("--study", "adversarial_baselines", "--run-name", "g", "--max-epochs", "1"),
    *("--stages", "search,report", "--set", "attack.steps=1", "--sampler", "random", "--scheduler", "none"),
]


DRIVER = """
import sys
from dataclasses import replace
import ray
from tests.faults.bench import ray_here
from tests.unit.pretend_gpu import Pretend
from tuner import cli
from tuner.devices import allocation, ray_probe
from tuner.devices.sharing_probe import ProbeTimeouts

ray_probe.CudaDevice = lambda: Pretend(error=ERROR)
ray_probe.ProbeTimeouts = lambda: ProbeTimeouts(window_s=0.3)
if not PROBES:
    allocation.RayProbeBackend = None
measure = ray_probe.RayProbeBackend.measure


def with_fast_packs(*given):
    measured = measure(*given)
    return replace(measured, steps_per_s=1e6, validation_s=0.0) if measured.pack > 1 else measured


if FAST_PACKS:
    ray_probe.RayProbeBackend.measure = with_fast_packs
with ray_here(WORKERS, cpus=2, num_gpus=1):
    address = ray.get_runtime_context().gcs_address
    code = cli.run([*sys.argv[1:], "--address", address])
sys.exit(code)
"""


def launch(
    launcher: Launcher, *arguments: str, error: str = "", probes: bool = True, fast_packs: bool = False
) -> str:
    """Run a launch in a process with a Ray of its own and a pretended GPU, and return what it said.

    Args:
        error: what the GPU answers when asked for its name.
        probes: False: whoever tries to measure gets an exception.
        fast_packs: packs train as if on a device that they suit.
    """
    given = f"WORKERS, ERROR, PROBES, FAST_PACKS = {WORKERS!r}, {error!r}, {probes}, {fast_packs}\n"
    done = subprocess.run(
        [sys.executable, "-c", given + DRIVER, *arguments],
        cwd=launcher.folder,
        env=launcher.environment | {"RAY_AUTH_MODE": "disabled"},  # whatever token this user has
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_study_measures_records_and_resumes(launcher: Launcher) -> None:
    said = launch(launcher, *SMALL, *ONE)
    assert "== probe: how many trials share a GPU" in said
    run = launcher.folder / "runs" / "g"
    recorded = json.loads((run / "plan.json").read_text())["gpu_share"]
    assert recorded["share"] in (0.5, 1.0)  # two CPUs bound the processes
    assert len(recorded["measured"]) == 4  # lanes
    assert all(line in said for line in recorded["measured"])
    at_a_time = f"== search: {round(1 / recorded['share'])} at a time"
    assert at_a_time in said
    remembered = launcher.folder / "cache" / "robust-tuner" / "gpu_shares.json"
    assert len(json.loads(remembered.read_text())) == 4
    with open(run / "trials.csv") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["COMPLETE"]
    again = launch(launcher, "--resume", "g", "--trials", "2", "--stages", "search,report", probes=False)
    assert "probe" not in again
    assert at_a_time in again


def test_a_study_is_packed_where_that_was_measured_to_be_faster(launcher: Launcher) -> None:
    """Nobody asked for packs. A resume takes them from the record; with --pack off it measures, and packs none."""
    said = launch(launcher, *SMALL, "--trials", "12", fast_packs=True)
    assert "trials are packed: up to 8 share a process, which has a whole GPU" in said
    assert "== search: 1 worker of up to 8 trials" in said
    run = launcher.folder / "runs" / "g"
    recorded = json.loads((run / "plan.json").read_text())["gpu_share"]
    assert (recorded["share"], recorded["pack"], recorded["wish"]) == (1.0, 8, None)
    assert recorded["alone"] in (0.5, 1.0)  # of evaluations; two CPUs bound the processes
    with open(run / "trials.csv") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["COMPLETE"] * 12
    assert not any("trained alone" in path.read_text() for path in run.glob("logs/*"))
    again = launch(launcher, "--resume", "g", "--trials", "13", "--stages", "search,report", probes=False)
    assert "== search: 1 worker of up to 8 trials" in again
    alone = ("--resume", "g", "--trials", "14", "--stages", "search,report", "--pack", "off")
    said = launch(launcher, *alone, fast_packs=True)
    assert "== probe" in said
    assert "packed" not in said.replace(str(run), "").partition("== probe")[2]
    assert "of up to" not in said


def test_a_study_goes_on_with_a_quarter_where_the_gpu_does_not_answer(launcher: Launcher) -> None:
    said = launch(launcher, *SMALL, *ONE, error="no driver")
    line = "GPU share 0.25, which could not be measured: RuntimeError: no driver"
    assert [text for text in said.splitlines() if text.endswith(line)]
    assert "== search: 2 at a time" in said
    plan = json.loads((launcher.folder / "runs" / "g" / "plan.json").read_text())
    assert "gpu_share" not in plan


def test_every_kind_of_gpu_of_a_cluster_is_measured_on_its_own(tmp_path: Path) -> None:
    """A head without GPU, two nodes of one kind of which the poorer has 2 CPUs for 2 GPUs, one of another kind."""
    plan = resolve(LaunchOptions("adversarial_baselines", settings=("attack.steps=2",)), "r", "c")
    plan = replace(plan, lanes=plan.lanes[:1], pack=1)
    assets = Assets(load(plan.dataset, "", search_only=True).for_search())

    def start(**options: Any) -> Cluster:
        head = {"num_cpus": 2, "include_dashboard": False, "temp_dir": options["_temp_dir"]}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for name, cpus, gpus in (("A", 8, 1), ("A", 2, 2), ("B", 2, 1)):
            cluster.add_node(num_cpus=cpus, num_gpus=gpus, env_vars={"PRETEND_GPU": name})
        ray.init(address=cluster.address, log_to_driver=False)
        return cluster

    with ray_here(WORKERS, start=start) as cluster:
        try:
            backend = RayProbeBackend(assets, 1, lambda: None, Pretend(), QUICK)
            a, b = backend.gpu_groups()
            assert [(k.gpu.name, k.max_processes) for k in (a, b)] == [("A", 1), ("B", 2)]
            rich = [n["NodeID"] for n in ray.nodes() if n["Resources"].get("CPU") == 8]
            assert [a.node_id] == rich
            cache = MeasurementCache(tmp_path / "gpu.json")
            found = Probe(plan, backend, cache).run()
            assert found.gpu_share == 1.0, found.notes  # of A, whose second node has a CPU for each GPU
            assert found.notes[-1] == "2 kinds of GPU: every trial gets the largest share, 1"
            entries = json.loads(cache.path.read_text()).values()
            assert sorted(entry["gpu"] for entry in entries) == ["A", "B"]
            measured = backend.measure(
                b, "pgd_at", costliest_options(plan.lanes[0], 0), SharingLayout(copies=2)
            )
            assert measured.steps_per_s > 0
        finally:
            ray.shutdown()
            for node in cluster.list_all_nodes()[::-1]:  # at once: a raylet that is asked to end may hang
                cluster.remove_node(node, allow_graceful=False)
