"""Trials per minute on 1, 2 and 4 nodes of pretend CPUs, and what scheduling costs with 1,000 trials in the queue.

    python benchmarks/scaling.py [--queued 1000]

The trials sleep instead of training, so the nodes may all be this machine (`ray.cluster_utils`: a raylet each, one
network stack). What is measured is the service: queue, database, Ray Tune, worker processes.
"""

import argparse
import os
import platform
import tempfile
import time
from typing import Any
from unittest import mock

from tuner.base import environment

environment.apply_defaults()
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from search_spaces.domain import Float  # noqa: E402
from search_spaces.study import Objective  # noqa: E402
from trainables.ray.assets import Assets  # noqa: E402
from tuner.base.records import State, TrialRole  # noqa: E402
from tuner.execution import ray_tune_adapter  # noqa: E402
from tuner.execution.trial_queue import Lane, TrialQueue  # noqa: E402
from tuner.search.schedulers import schedule  # noqa: E402
from tuner.store.database import open_storage  # noqa: E402
from tuner.store.trial_store import TrialStore  # noqa: E402

CPUS, EPOCHS, EPOCH_S, TRIALS_PER_CPU = 2, 3, 1.0, 10


class Sleeper(tune.Trainable):
    """Reports as a study's trial does, and sleeps where that trains."""

    def setup(self, config: dict[str, Any], assets: Any = None) -> None:
        self.config, self.epoch = config, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.config["sleep"])
        self.epoch += 1
        return {"val/score": self.config["x"], "epoch": self.epoch, "checkpoint": f"epoch-{self.epoch}"}


def run(trials: int, epochs: int, sleep: float, concurrency: int) -> float:
    """Run so many trials through the queue and return the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        objective = Objective("val/score")
        storage = open_storage(f"sqlite:///{folder}/study.db")
        store = TrialStore(
            storage, "study", "search", TrialRole.SEARCH, {"x": Float(0.0, 1.0)}, [objective], 0
        )
        queue = TrialQueue(
            [Lane(store, "sleep", {"sleep": sleep}, trials, 0, early_stopping=False)],
            [objective],
            seed=0,
            max_epochs=epochs,
            schedule=schedule("none", 1, 3, epochs),
        )
        started = time.perf_counter()
        ray_tune_adapter.run_queue(
            queue,
            assets=Assets(None),  # type: ignore[arg-type]
            run_uri=folder,
            validation={},
            resources={"cpu": 1},
            concurrency=concurrency,
            log=lambda key, text: print(key, text),
            file_written=lambda key, name: None,
            splits_opened=lambda names: None,
            asked_to_stop=lambda: False,
        )
        seconds = time.perf_counter() - started
        assert all(record.state is State.COMPLETE for record in store.records())
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=1000)
    queued = parser.parse_args().queued
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}; ",
        end="",
    )
    print(f"Python {platform.python_version()}, ray {ray.__version__}\n")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS, "include_dashboard": False})
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    print(
        f"{EPOCHS} epochs of {EPOCH_S:g} s per trial, {TRIALS_PER_CPU} trials per pretend CPU, {CPUS} CPUs per node\n"
    )
    print("| nodes | trials | seconds | trials per minute | of the ideal |\n|---|---|---|---|---|")
    with mock.patch.object(ray_tune_adapter, "StudyTrainable", Sleeper):
        nodes = 1
        for wanted in (1, 2, 4):
            for _ in range(wanted - nodes):
                cluster.add_node(num_cpus=CPUS)
            nodes = wanted
            cluster.wait_for_nodes()
            slots = nodes * CPUS
            trials = slots * TRIALS_PER_CPU
            seconds = run(trials, EPOCHS, EPOCH_S, slots)
            share = TRIALS_PER_CPU * EPOCHS * EPOCH_S / seconds
            row = (
                f"| {nodes} | {trials} | {seconds:.1f} | {60 * trials / seconds:.0f} | {100 * share:.0f} % |"
            )
            print(row, flush=True)
        seconds = run(queued, 1, 0.0, nodes * CPUS)
        print(
            f"\n{queued} trials of nothing, one epoch each, {nodes * CPUS} at a time: {seconds:.1f} s, ",
            end="",
        )
        print(f"{1000 * seconds / queued:.0f} ms per trial")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
