"""A queue of small real trainings on Ray, without the stages around it: seconds for a fault in a worker."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from search_spaces.domain import Float
from search_spaces.study import Objective
from tests.faults.conftest import Faults
from trainables.data.loading.open_dataset import load
from trainables.ray.assets import Assets
from tuner.base import environment
from tuner.base.records import TrialRecord, TrialRole
from tuner.execution.ray_tune_adapter import run_queue
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.search.schedulers import schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

OBJECTIVE = Objective("val/accuracy/clean")
FIXED = {"dataset": "digits-open", "epochs": 3, "threads": 1, "dropout": 0.2, "batch_size": 256}


@dataclass
class Bench:
    """Ray with the hook in its workers, and one folder for each study.

    Attributes:
        logs: {trial: lines} of the last study.
    """

    faults: Faults
    assets: Assets
    folder: Path = Path()
    logs: dict[str, str] = field(default_factory=dict)

    def store(self) -> TrialStore:
        storage = open_storage(f"sqlite:///{self.folder / 'study.db'}")
        return TrialStore(
            storage, "bench", "search", TrialRole.SEARCH, {"lr": Float(1e-4, 1e-2, log=True)}, [OBJECTIVE], 1
        )

    def run(
        self, *faults: dict[str, Any], trials: int = 2, stop_after: int = 1000, workers: int = 1, **more: Any
    ) -> list[TrialRecord]:
        """Run a study to its end, or until so many epochs are recorded, and return its trials.

        Raises:
            Exception: what `run_queue` raises.
        """
        self.faults.arm(*faults)
        self.logs.clear()
        store = self.store()
        before = recorded(store)
        queue = TrialQueue(
            [Lane(store, "standard", FIXED, trials, 1, early_stopping=False)],
            [OBJECTIVE],
            seed=1,
            max_epochs=3,
            schedule=schedule("none", 1, 3, 3),
        )
        run_queue(
            queue,
            assets=self.assets,
            run_uri=str(self.folder),
            validation={"groups": ("clean",), "max_images": 100},
            resources={"cpu": 1},
            concurrency=workers,
            log=self._log,
            file_written=lambda key, name: None,
            splits_opened=lambda names: None,
            asked_to_stop=lambda: recorded(store) - before >= stop_after,
            **more,
        )
        return self.store().records()

    def _log(self, key: str, text: str) -> None:
        self.logs[key] = self.logs.get(key, "") + text + "\n"

    def checkpoint(self, number: int, epoch: int) -> Path:
        return self.folder / "checkpoints" / f"{number:04d}" / f"epoch-{epoch:04d}.pt"


def recorded(store: TrialStore) -> int:
    return sum(len(record.history) for record in store.records())


def results(records: list[TrialRecord]) -> list[Any]:
    """Return what must be equal whatever happened on the way."""
    return [
        (
            r.key,
            r.state,
            r.params,
            [
                (n, e.decision, e.checkpoint, {k: v for k, v in e.metrics.items() if "seconds" not in k})
                for n, e in r.history.items()
            ],
        )
        for r in records
    ]


@contextmanager
def ray_here(
    variables: dict[str, str], start: Callable[..., Any] = ray.init, cpus: int = 2, **options: Any
) -> Iterator[Any]:
    """Start Ray in this process with environment variables for its workers; end it and put them back.

    Without tokens: a process keeps to the mode of its first session, and Ray takes them for some sessions by itself.
    """
    environment.apply_defaults()
    session = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # Ray's sockets need a short path
    before = dict(os.environ)
    os.environ.update({"RAY_AUTH_MODE": "disabled", **variables})
    try:
        yield start(num_cpus=cpus, include_dashboard=False, log_to_driver=False, _temp_dir=session, **options)
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(session, ignore_errors=True)


def bench_in(folder: Path) -> Iterator[Bench]:
    faults = Faults(folder / "faults")
    faults.folder.mkdir()
    with ray_here(faults.environment):
        benchmark = load(FIXED["dataset"], "", search_only=True).for_search()  # type: ignore[arg-type]
        yield Bench(faults, Assets(benchmark))
