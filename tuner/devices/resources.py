"""What a trial gets, settled before the first one starts, so that none waits for ever for what is not there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Node = Mapping[str, float]  # resources of one machine: CPU, GPU, ...

AUTO_GPU_FRACTION = 0.25
BOOTSTRAP = Path(
    "~/ray_bootstrap_config.yaml"
)  # on the head of a cluster by `ray up`; JSON, in spite of its name


@dataclass(frozen=True)
class Resources:
    """Per trial and in all.

    Attributes:
        gpus_per_trial: share of one GPU for a worker; 0 on the CPU.
        concurrency: workers at a time.
        note: a line for the user where the wish could not be met, or "".
        pack: trials that share a worker at most.
        gpus_alone: share of one GPU for a job with one trial in it, an evaluation; None: as a worker.
    """

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int
    note: str = ""
    pack: int = 1
    gpus_alone: float | None = None

    @property
    def gpus_per_job(self) -> float:
        return self.gpus_per_trial if self.gpus_alone is None else min(self.gpus_per_trial, self.gpus_alone)

    @property
    def at_a_time(self) -> str:
        """Return how many trials run at once, in words."""
        if self.pack == 1:
            return f"{self.concurrency} at a time"
        return f"{self.concurrency} {'worker' if self.concurrency == 1 else 'workers'} of up to {self.pack} trials"

    def as_request(self) -> dict[str, float]:
        request: dict[str, float] = {"cpu": self.cpus_per_trial}
        if self.gpus_per_trial:
            request["gpu"] = self.gpus_per_trial
        return request


def settle(
    nodes: Sequence[Node], cpus_per_trial: int, gpus_per_trial: float | None, concurrency: int | None
) -> Resources:
    """Return what each trial gets on machines like these.

    Args:
        nodes: resources of each machine, there or to come.
        gpus_per_trial: None = not known: a quarter where there is a GPU, nothing where there is none.
        concurrency: None = as many as fit.

    A wish that no machine can serve is cut down with a note: Tune would wait without end.
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


def slots(node: Node, cpus: int, share: float) -> int:
    """Return how many trials a machine holds at a time.

    A share never spans devices: 0.4 of 2 GPUs is 2 + 2 trials, not 5; whole multiples use several.
    """
    fit = _cpus(node) // cpus
    if not share:
        return fit
    gpus = _gpus(node)
    return min(fit, gpus * int(1 / share + 1e-9) if share <= 1 else gpus // int(share))


def copies_allowed(node: Node, cpus: int) -> int:
    """Return how many trials each GPU of a machine can have at most, by its CPUs; at least 1.

    More would leave GPUs idle: Ray fills one device before it takes the next.

    Example:
        16 CPUs, 4 GPUs, 2 CPUs for a trial: 2
    """
    return max(1, _cpus(node) // cpus // max(1, _gpus(node)))


def gpu_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of `ray.nodes()` that are up and have a GPU."""
    return [node for node in nodes if node["Alive"] and _gpus(node["Resources"])]


def gpu_types(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what Ray calls the kinds of GPU that are up, without asking them; "" for one that it does not know."""
    found = set()
    for node in gpu_nodes(nodes):
        names = [r.partition(":")[2] for r in node["Resources"] if r.startswith("accelerator_type:")]
        found.add(names[0] if names else "")
    return sorted(found)


def _cpus(node: Node) -> int:
    return int(node.get("CPU", 0))


def _gpus(node: Node) -> int:
    return int(node.get("GPU", 0))


def with_nodes_to_come(alive: Sequence[Node], bootstrap: Path = BOOTSTRAP) -> list[Node]:
    """Return the machines of a cluster when its autoscaler has started all it may; those alive where there is none.

    On the head of a cluster by `ray up` the launcher leaves the configuration, with the resources of every node
    type. Types whose resources it does not know are left out; machines of one's own are taken to be as the largest
    of those alive.
    """
    try:
        config: dict[str, Any] = json.loads(bootstrap.expanduser().read_text())
        types, head = config["available_node_types"], config["head_node_type"]
        limit, local = int(config["max_workers"]), config["provider"]["type"] == "local"
    except (OSError, ValueError, KeyError):
        return list(alive)
    workers: list[Node] = []
    for name, kind in types.items():
        shape = kind.get("resources") or (max(alive, key=_cpus, default={}) if local else {})
        if shape and (name != head or local):
            workers += [shape] * int(kind.get("max_workers", limit))
    planned = [_head(alive), *workers[:limit]]
    return planned if len(planned) > len(alive) else list(alive)


def _head(alive: Sequence[Node]) -> Node:
    return next((node for node in alive if "node:__internal_head__" in node), {})
