"""CPU and GPU request of a trial and how many run at a time, so that no request exceeds what the machines have."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.base.text import counted
from tuner.planning.plan import Plan

Node = Mapping[str, float]  # resources of one machine: CPU, GPU, ...

AUTO_GPU_FRACTION = 0.25  # share of a GPU per trial where it was not measured
#: on the head of a cluster by `ray up`; JSON, in spite of its name
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")


@dataclass(frozen=True)
class Resources:
    """The allocation of one launch.

    Attributes:
        cpus_per_trial: CPUs of a worker.
        gpus_per_trial: share of a GPU for a worker; 0 on the CPU.
        concurrency: workers at a time.
        note: one line for the user if what was asked for is not there, or "".
        pack: most trials that share a worker.
        gpus_per_single_trial: share of a GPU for a task with one trial, such as an evaluation; None: as a worker.
    """

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int
    note: str = ""
    pack: int = 1
    gpus_per_single_trial: float | None = None

    @property
    def gpus_per_job(self) -> float:
        """Return the share of a GPU for a task that is not a worker: an evaluation, a pretraining."""
        if self.gpus_per_single_trial is None:
            return self.gpus_per_trial
        return min(self.gpus_per_trial, self.gpus_per_single_trial)

    @property
    def at_a_time(self) -> str:
        """Return how many trials run at once, in words."""
        if self.pack == 1:
            return f"{self.concurrency} at a time"
        return f"{counted(self.concurrency, 'worker')} of up to {self.pack} trials"

    def as_request(self) -> dict[str, float]:
        """Return the resources of a worker for `tune.with_resources`."""
        request: dict[str, float] = {"cpu": self.cpus_per_trial}
        if self.gpus_per_trial:
            request["gpu"] = self.gpus_per_trial
        return request


def allocate(
    nodes: Sequence[Node], cpus_per_trial: int, gpus_per_trial: float | None, concurrency: int | None
) -> Resources:
    """Return the allocation of trials on machines with these resources.

    A request that no machine can serve is reduced, with a note: Tune would wait for it without end.

    Args:
        nodes: resources of each machine, running or to be started.
        gpus_per_trial: None: AUTO_GPU_FRACTION if there is a GPU, else 0.
        concurrency: None: as many as fit.
    """
    largest = max((_gpus(node) for node in nodes), default=0)
    notes = []
    share = (AUTO_GPU_FRACTION if largest else 0.0) if gpus_per_trial is None else gpus_per_trial
    if share and not largest:
        notes.append(f"no GPU here: the trials run on the CPU instead of on {share:g} GPU each")
        share = 0.0
    elif share > max(1, largest):
        notes.append(
            f"{share:g} GPUs per trial asked for, {largest} in one machine: each trial gets {largest}"
        )
        share = float(largest)
    cpus = max((_cpus(node) for node in nodes if not share or _gpus(node)), default=1)
    each = cpus_per_trial
    if each > max(1, cpus):
        notes.append(f"{each} CPUs per trial asked for, {cpus} there: each trial gets {cpus}")
        each = max(1, cpus)
    fit = max(1, sum(slots(node, each, share) for node in nodes))
    wanted = fit if concurrency is None else concurrency
    if wanted > fit:
        notes.append(f"--concurrency {wanted} does not fit; {fit} at a time")
    return Resources(each, share, max(1, min(wanted, fit)), "; ".join(notes))


def with_threads(configuration: Mapping[str, Any], cpus: int) -> dict[str, Any]:
    """Return a trial's configuration with at most one thread for each CPU that it gets."""
    return {**configuration, "threads": min(int(configuration.get("threads", 1)), cpus)}


def fitted(plan: Plan, cpus: int) -> Plan:
    """Return a plan whose trials have at most so many CPUs, and threads."""
    lanes = tuple(replace(lane, fixed=with_threads(lane.fixed, cpus)) for lane in plan.lanes)
    return replace(plan, lanes=lanes, cpus_per_trial=min(plan.cpus_per_trial, cpus))


def slots(node: Node, cpus: int, share: float) -> int:
    """Return how many trials a machine holds at a time.

    A share never spans devices: 0.4 of 2 GPUs is 2 + 2 trials, not 5; whole multiples use several.
    """
    fit = _cpus(node) // cpus
    if not share:
        return fit
    gpus = _gpus(node)
    return min(fit, gpus * int(1 / share + 1e-9) if share <= 1 else gpus // int(share))


def max_processes_per_gpu(node: Node, cpus: int) -> int:
    """Return how many processes per GPU a machine's CPUs allow, at least 1.

    More would leave GPUs idle: Ray fills one GPU before it takes the next.

    Example:
        16 CPUs, 4 GPUs, 2 CPUs for a trial: 2
    """
    return max(1, _cpus(node) // cpus // max(1, _gpus(node)))


def gpu_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of `ray.nodes()` that are up and have a GPU."""
    return [node for node in nodes if node["Alive"] and _gpus(node["Resources"])]


def gpu_types(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return Ray's names of the types of GPU that are up, without asking them; "" for one that it does not know."""
    found = set()
    for node in gpu_nodes(nodes):
        names = [r.partition(":")[2] for r in node["Resources"] if r.startswith("accelerator_type:")]
        found.add(names[0] if names else "")
    return sorted(found)


def _cpus(node: Node) -> int:
    return int(node.get("CPU", 0))


def _gpus(node: Node) -> int:
    return int(node.get("GPU", 0))


def with_autoscaled_nodes(alive: Sequence[Node], bootstrap: Path = BOOTSTRAP) -> list[Node]:
    """Return the nodes of a cluster once its autoscaler has started all it may; the running ones without autoscaler.

    On the head of a cluster by `ray up` the launcher leaves the configuration, with the resources of every node
    type. Types whose resources it does not know are left out; machines of one's own are taken to be as the largest
    of those alive.
    """
    try:
        config: dict[str, Any] = json.loads(bootstrap.expanduser().read_text())
        types, head = config["available_node_types"], config["head_node_type"]
        limit, local = int(config["max_workers"]), config["provider"]["type"] == "local"
    except (OSError, ValueError, KeyError, RecursionError):
        return list(alive)
    workers: list[Node] = []
    for name, node_type in types.items():
        shape = node_type.get("resources") or (max(alive, key=_cpus, default={}) if local else {})
        if shape and (name != head or local):
            workers += [shape] * int(node_type.get("max_workers", limit))
    planned = [_head(alive), *workers[:limit]]
    return planned if len(planned) > len(alive) else list(alive)


def _head(alive: Sequence[Node]) -> Node:
    return next((node for node in alive if "node:__internal_head__" in node), {})
