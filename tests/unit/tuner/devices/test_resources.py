"""What each trial gets: on one machine, on mixed nodes, on nodes that are still to come."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from trainables.ray import device
from tuner.console.preview import plan_text
from tuner.devices.resources import Node, Resources, allocate, fitted, slots, with_autoscaled_nodes
from tuner.execution.controller import Controller
from tuner.execution.ray_tune_adapter import configuration
from tuner.execution.trial_queue import Assignment
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve

CPU_NODE: Node = {"CPU": 16}
GPU_NODE: Node = {"CPU": 8, "GPU": 1}
BIG_NODE: Node = {"CPU": 8, "GPU": 4}
HEAD: Node = {"CPU": 0, "node:__internal_head__": 1}


@pytest.mark.parametrize(
    ("node", "cpus", "share", "count"),
    [
        (GPU_NODE, 1, 0.25, 4),
        (GPU_NODE, 4, 0.25, 2),  # the CPUs are the limit
        (BIG_NODE, 1, 0.4, 8),  # two on each device, never one across two
        (BIG_NODE, 1, 0.3, 8),  # 12 by the GPUs, 8 by the CPUs
        (BIG_NODE, 1, 2.0, 2),
        (CPU_NODE, 2, 0.25, 0),
        (CPU_NODE, 2, 0.0, 8),
        (HEAD, 1, 0.0, 0),
    ],
)
def test_trials_that_fit_a_node(node: Node, cpus: int, share: float, count: int) -> None:
    assert slots(node, cpus, share) == count


def test_mixed_nodes_are_counted_one_by_one() -> None:
    """16 + 8 CPUs at 4 each and 1 GPU at 0.25 each would be 4 trials together; the GPU's node holds 2."""
    assert allocate([HEAD, CPU_NODE, GPU_NODE], 4, 0.25, None).concurrency == 2
    assert allocate([HEAD, CPU_NODE, GPU_NODE], 4, 0.0, None).concurrency == 6
    assert allocate([HEAD, CPU_NODE, GPU_NODE], 1, None, None).gpus_per_trial == 0.25


@pytest.mark.parametrize(
    ("nodes", "wish", "got", "note"),
    [
        ([CPU_NODE], (1, 0.5, None), (1, 0.0, 16), "no GPU here"),
        ([GPU_NODE, GPU_NODE], (1, 2.0, None), (1, 1.0, 2), "1 in one machine"),
        ([CPU_NODE, GPU_NODE], (12, 0.5, None), (8, 0.5, 1), "8 there"),
        ([GPU_NODE], (1, 0.5, 9), (1, 0.5, 2), "does not fit; 2 at a time"),
        ([HEAD], (1, None, None), (1, 0.0, 1), ""),
    ],
)
def test_what_cannot_be_is_cut_down_and_said(
    nodes: list[Node], wish: tuple[Any, ...], got: tuple[Any, ...], note: str
) -> None:
    found = allocate(nodes, *wish)
    assert (found.cpus_per_trial, found.gpus_per_trial, found.concurrency) == got
    assert note in found.note


def test_a_trial_has_no_more_threads_than_cpus() -> None:
    """New trials by the plan; those that began on a larger machine when they go on; --dry-run says the number."""
    plan = resolve(LaunchOptions("aoe_sigma", cpus_per_trial=64), "one")
    here = fitted(plan, allocate([{"CPU": 2}], 64, None, None).cpus_per_trial)
    assert here.cpus_per_trial == 2
    assert {lane.fixed["threads"] for lane in here.lanes} == {2}
    assert fitted(plan, 128) == plan
    begun = Assignment("0000", "search", 0, "aoe", plan.lanes[0].fixed, 1, 1, "", 0, 1)
    assert [configuration(begun, "runs/one", {}, cpus)["threads"] for cpus in (2, 128)] == [2, 64]
    said = [
        line
        for cpus in (2, 64, None)
        for line in plan_text(plan, cpus=cpus).splitlines()
        if "each trial" in line
    ]
    rest = "a share of a GPU where there is one, measured at start; as many at once as fit"
    assert said == [
        f"each trial: {n} CPU{why}, {rest}"
        for n, why in ((2, " (64 asked for, 2 there)"), (64, ""), (64, ""))
    ]


def bootstrap(path: Path, **changes: Any) -> Path:
    config = {
        "provider": {"type": "aws"},
        "max_workers": 3,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "max_workers": 0},
            "gpu": {"resources": GPU_NODE, "max_workers": 2},
            "cpu": {"resources": CPU_NODE, "max_workers": 4},
        },
    }
    path.write_text(json.dumps(config | changes))
    return path


def test_an_autoscaler_counts_with_what_it_may_start(tmp_path: Path) -> None:
    file = bootstrap(tmp_path / "config")
    assert with_autoscaled_nodes([HEAD], file) == [HEAD, GPU_NODE, GPU_NODE, CPU_NODE]
    assert allocate(with_autoscaled_nodes([HEAD], file), 1, None, None).concurrency == 8
    assert with_autoscaled_nodes([HEAD], tmp_path / "none") == [HEAD]
    (tmp_path / "broken").write_text("{")
    assert with_autoscaled_nodes([HEAD], tmp_path / "broken") == [HEAD]


def test_machines_of_ones_own_are_like_those_that_are_up(tmp_path: Path) -> None:
    types = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
    file = bootstrap(
        tmp_path / "config",
        provider={"type": "local"},
        max_workers=2,
        head_node_type="local.cluster.node",
        available_node_types=types,
    )
    head = {"CPU": 4, "node:__internal_head__": 1}
    assert [node["CPU"] for node in with_autoscaled_nodes([head], file)] == [4, 4, 4]


@pytest.mark.parametrize(("share", "fraction"), [(0.25, 0.2), (0.05, 0.025), (1.0, 1.0), (2.0, 1.0)])
def test_a_trial_is_held_to_its_share_of_the_memory(
    share: float, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device of 20 CUDA contexts: a quarter leaves 5 of them, one is the context itself."""
    held: list[float] = []
    total = SimpleNamespace(total_memory=20 * device.CUDA_CONTEXT_BYTES)
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0, "GPU": share})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", held.append)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [0])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    assert device.choose_device("auto") == torch.device("cuda")
    assert held == pytest.approx([fraction])


@pytest.mark.parametrize(
    ("resources", "job"),
    [
        (Resources(1, 0.25, 4), 0.25),
        # packs have a GPU each, evaluations do not
        (Resources(1, 1.0, 1, pack=32, gpus_per_single_trial=0.125), 0.125),
        (Resources(1, 0.0, 2, pack=8, gpus_per_single_trial=0.125), 0.0),  # resumed where there is no GPU
    ],
)
def test_what_a_job_beside_the_trials_gets(
    resources: Resources, job: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    class Remote:
        def options(self, **given: object) -> SimpleNamespace:
            asked.update(given)
            return SimpleNamespace(remote=print)

    monkeypatch.setattr("tuner.execution.controller.ray.remote", lambda function: Remote())
    monkeypatch.setattr("tuner.execution.controller.ray.is_initialized", lambda: True)
    controller = Controller.__new__(Controller)
    controller.resources = resources
    controller._remote("a:job")
    assert asked["num_gpus"] == job
    controller._remote("a:job", gpu=False)
    assert asked["num_gpus"] == 0
