"""What a trial costs the driver as a study grows: queue, decisions and database, no Ray, no MLflow.

    python benchmarks/growth.py [--trials 10000] [--sampler random]

Trials of up to nine epochs with ten metrics each, successive halving, four at a time, SQLite on disk. CPU time of the
process per trial, over windows of a tenth of the study; memory and the database's size at their ends.
"""

import argparse
import os
import random
import resource
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from alternate import line, machine, table

from search_spaces.domain import Float
from search_spaces.study import Objective
from tuner.base.records import Decision, TrialRole
from tuner.execution.trial_queue import Assignment, Lane, TrialQueue
from tuner.search.schedulers import schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

METRICS = {f"val/m{k}": k / 7 for k in range(8)} | {"seconds": 1.0}
EPOCHS, SLOTS, WINDOWS = 9, 4, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="random")
    options = parser.parse_args()
    print(f"python benchmarks/growth.py --trials {options.trials} --sampler {options.sampler}")
    print(f"{machine('optuna', 'sqlalchemy')}\n")
    print(table([["trials", "CPU ms per trial", "memory MB", "database MB"]]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run(folder, options.trials, options.sampler)


def run(folder: str, trials: int, sampler: str) -> None:
    """Run a study of random values and print a row for the first hundred trials and for every tenth of all."""
    objective = Objective("val/score")
    space = {name: Float(0.0, 1.0) for name in "abc"}
    storage = open_storage(f"sqlite:///{folder}/study.db")
    store = TrialStore(storage, "growth", "search", TrialRole.SEARCH, space, [objective], 0, sampler)
    rule = schedule("asha", 1, 3, EPOCHS)
    queue = TrialQueue(
        [Lane(store, "", {}, trials, 0)], [objective], seed=0, max_epochs=EPOCHS, schedule=rule
    )
    values = random.Random(0)
    running: dict[str, tuple[Assignment, int]] = {}
    ended, before, clock = 0, 0, time.process_time()
    while not queue.finished:
        while len(running) < SLOTS and (assignment := queue.next()) is not None:
            running[assignment.key] = assignment, 0
        for key, (assignment, epoch) in list(running.items()):
            metrics = {"val/score": values.random(), **METRICS}
            if queue.report(key, epoch + 1, metrics, "checkpoint") is Decision.CONTINUE:
                running[key] = assignment, epoch + 1
                continue
            del running[key]
            ended += 1
            if ended in (100, *(trials * part // WINDOWS for part in range(1, WINDOWS + 1))):
                now = time.process_time()
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                size = sum(entry.stat().st_size for entry in os.scandir(folder)) / 1e6
                cost = f"{1000 * (now - clock) / (ended - before):.2f}"
                print(line([f"{before + 1} to {ended}", cost, f"{memory:.0f}", f"{size:.1f}"]), flush=True)
                before, clock = ended, now


if __name__ == "__main__":
    main()
