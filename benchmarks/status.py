"""What `--status` costs over a folder of many runs: CPU and wall time of the whole process, imports included.

    python -m benchmarks.status [--runs 100] [--trials 12] [--repeats 3]

Runs of aoe_sigma on disk, each with a database of its own; half of a run's trials were stopped at the first rung.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.alternate import line, machine, table
from tests.unit.runs import StoredRun

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"python -m benchmarks.status --runs {options.runs} --trials {options.trials}")
    print(f"{machine('optuna', 'sqlalchemy')}\n")
    print(table([["runs", "CPU s", "wall s"]]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = 0
        for runs in (1, options.runs):
            for number in range(made, runs):
                make_run(Path(folder), f"run-{number:03d}", options.trials)
            made = runs
            costs = [cost(folder) for _ in range(options.repeats)]
            cpu, wall = (f"{statistics.median(column):.2f}" for column in zip(*costs, strict=True))
            print(line([str(runs), cpu, wall]), flush=True)


def make_run(root: Path, name: str, trials: int) -> None:
    run = StoredRun(root, name, trials)
    queue = run.queue()
    for number in range(trials):
        run.trial(queue, [0.5 + (0.01 if number % 2 else -0.01) * number] * run.plan.max_epochs)


def cost(folder: str) -> tuple[float, float]:
    """Return (CPU seconds, wall seconds) of one `--status`."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, str(ROOT / "launch.py"), "--status", "--storage", folder]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.count("aoe_sigma") >= 1, done.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.monotonic() - started


if __name__ == "__main__":
    main()
