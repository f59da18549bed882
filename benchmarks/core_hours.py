"""Trials per core-hour of a whole search, packed or with a worker each, beside plain Ray Tune; and what it finds.

    python benchmarks/core_hours.py [--seeds 20] [--trials 48] [--pack 32] [--out FILE]
    python benchmarks/core_hours.py --table FILE

Every arm searches the same space for PGD-AT on the digits: learning rate, weight decay, radius and steps (1 to 6) of
the training attack, up to 9 epochs with asynchronous halving (first rung 1, reduction 3) on the validation accuracy
under PGD-10; TPE suggests. The network is `narrow` of `packed.py`, batch 8: its operations cost less than their
dispatch. Workers have one thread; all arms train, validate and write a checkpoint per epoch by the same functions.

    raw           `tune.Tuner`, OptunaSearch, AsyncHyperBandScheduler, two workers, one trial in each, actors reused,
                  Tune's own checkpoints (the last two kept); no logger and no MLflow
    packed        the service's queue, database and checkpoints, one worker with up to `--pack` trials
    single        the same with two workers, one trial in each
    sequential    the queue without Ray: one trial after the other in one process (a floor, not a search as one runs it)

Arms take turns, every other seed backwards, each in a process with a Ray of its own. CPU is that of the driver and of
the workers from before Ray's start until the last trial has ended; "start" is the part that the workers need before
their first trial, nearly all imports. Ray's other processes (raylet, GCS, agents) have a column of their own, and a
ratio that includes them. Not counted: the driver's imports, loading the data, Ray's shutdown, a worker's last half
second (processes are sampled), and the evaluation of the winner, the trial of full length that was best in
validation, which PGD-20 attacks on the test split. The service's MLflow is off, see `overhead.py` for its cost.

Every run is a line of JSON in the file that `--out` names; those that are there already are not run again.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import ray
import torch
from alternate import machine, table
from core_hours_arms import ARMS, EPOCHS, FOLDER, WORKERS, use_narrow

from trainables.data.loading.open_dataset import load
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.ray.assets import Assets
from trainables.ray.trial_runner import VALIDATION_SEED
from trainables.training import checkpoints
from tuner.analysis.results import interval
from tuner.base import environment

ROOT = Path(__file__).resolve().parents[1]
TEST = EvaluationProtocol("test", groups=("robust",), robust_epsilons=(0.15,), steps=20)


@dataclass(frozen=True)
class Run:
    """One search: the line of the file. Times are in seconds, accuracies fractions."""

    arm: str
    seed: int
    trials: int
    pack: int
    epochs: int
    cpu: float
    start: float
    ray: float
    wall: float
    validation: float
    test: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--pack", type=int, default=32)
    parser.add_argument("--arms", default="raw,packed,single", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--out", type=Path, help="takes a line for every run; default: a new temporary file")
    parser.add_argument("--table", type=Path, metavar="FILE", help="run nothing, show the runs of this file")
    parser.add_argument("--one", nargs=4, metavar=("ARM", "SEED", "TRIALS", "PACK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(measure(options.one[0], *map(int, options.one[1:])))))
        return
    if options.table:
        print(tables(read(options.table)))
        return
    out = options.out or Path(tempfile.mkstemp(prefix="core-hours-", suffix=".jsonl")[1])
    print(f"python benchmarks/core_hours.py --seeds {options.seeds} --trials {options.trials}", end="")
    print(f" --pack {options.pack} --arms {options.arms} --out {out}")
    print(machine("torch", "ray", "optuna").replace(", one thread", ""), flush=True)
    size = (options.trials, options.pack)
    done = [run for run in read(out) if run.trials == options.trials and run.pack in (1, options.pack)]
    for seed in range(options.seeds):
        arms = options.arms.split(",")[:: 1 if seed % 2 == 0 else -1]
        for arm in arms:
            if any((run.arm, run.seed) == (arm, seed) for run in done):
                continue
            done.append(in_own_process(arm, seed, *size))
            line = json.dumps(asdict(done[-1]))
            with open(out, "a") as file:
                file.write(line + "\n")
            print(line, flush=True)
    print("\n" + tables([run for run in done if run.seed < options.seeds]))


def read(path: Path) -> list[Run]:
    """Return the runs of a file that may not be there yet."""
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def in_own_process(arm: str, seed: int, trials: int, pack: int) -> Run:
    """Run one arm once, with a Ray and a folder of its own."""
    folder = tempfile.mkdtemp(prefix="rc", dir="/tmp")  # Ray's sockets need a short path
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "RAY_", "TUNE_"))}
    quiet = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    variables |= quiet if arm == "raw" else environment.DEFAULTS
    variables |= {"RAY_TMPDIR": folder, FOLDER: folder, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", arm, *map(str, (seed, trials, pack))]
    try:
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{arm}, seed {seed}, failed:\n{done.stderr[-3000:]}")
        return Run(**json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(arm: str, seed: int, trials: int, pack: int) -> Run:
    """Search in the current folder."""
    torch.set_num_threads(1)
    data = load("digits", "", search_only=True).for_search()
    meter = Meter()
    meter.start()
    wall, cpu = time.perf_counter(), time.process_time()
    if arm != "sequential":
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ended = ARMS[arm](Assets(data), seed, trials, pack)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    meter.stop()
    ray.shutdown()
    best = max((trial for trial in ended if trial.epochs == EPOCHS), key=lambda trial: trial.value)
    use_narrow()
    content = checkpoints.unpack(best.checkpoint.read_bytes(), "the winner")
    network, generator = checkpoints.classifier_of(content), torch.Generator().manual_seed(VALIDATION_SEED)
    found = evaluate(network, load("digits", ""), TEST, generator, "cpu").metrics
    return Run(
        arm, seed, trials, pack if arm == "packed" else 1,
        epochs=sum(trial.epochs for trial in ended),
        cpu=round(cpu - meter.own + meter.total("worker"), 2),
        start=round(sum(float(path.read_text()) for path in Path().glob("start-*")), 2),
        ray=round(meter.total("ray"), 2),
        wall=round(wall, 1),
        validation=best.value,
        test=found["test/accuracy/robust_0.15"],
    )  # fmt: skip


class Meter(threading.Thread):
    """Samples the CPU seconds of the processes below this one: those of a worker are gone with it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds: dict[psutil.Process, float] = {}
        self.kinds: dict[psutil.Process, str] = {}
        self.own = 0.0  # what sampling has cost
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            self.sample()
            self.own = time.thread_time()

    def sample(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self.seconds[process] = times.user + times.system
                if process not in self.kinds:
                    command = " ".join(process.cmdline())
                    of_ray = "default_worker.py" not in command and not command.startswith("ray::")
                    self.kinds[process] = "ray" if of_ray or command.endswith("Agent") else "worker"

    def stop(self) -> None:
        self._over.set()
        self.join()
        self.sample()

    def total(self, kind: str) -> float:
        return sum(seconds for process, seconds in self.seconds.items() if self.kinds.get(process) == kind)


def tables(runs: list[Run]) -> str:
    """Return what the runs cost, and what they found; ratios and differences are those of a seed's own pair."""
    by_arm = {arm: {run.seed: run for run in runs if run.arm == arm} for arm in ARMS}
    by_arm = {arm: found for arm, found in by_arm.items() if found}
    peers = by_arm.get("raw", {})
    cost = [["arm", "seeds", "CPU s", "of it start", "Ray's own", "trials per core-hour", "times raw",
             "times raw, Ray's own counted", "trial-epochs", "CPU ms per trial-epoch", "wall s"]]  # fmt: skip
    quality = [["arm", "best validation", "less raw's, 95 %", "its test accuracy", "less raw's, 95 %"]]
    for arm, found in by_arm.items():
        pairs = [(run, peers[seed]) for seed, run in found.items() if seed in peers]
        name = f"packed, {next(iter(found.values())).pack}" if arm == "packed" else arm
        cost.append([
            name, str(len(found)),
            *(median(found, key, ".1f") for key in (lambda r: r.cpu, lambda r: r.start, lambda r: r.ray)),
            median(found, lambda r: 3600 * r.trials / r.cpu, ".0f"),
            spread([peer.cpu / run.cpu for run, peer in pairs]),
            spread([(peer.cpu + peer.ray) / (run.cpu + run.ray) for run, peer in pairs]),
            median(found, lambda r: r.epochs, ".0f"),
            median(found, lambda r: 1000 * r.cpu / r.epochs, ".0f"),
            median(found, lambda r: r.wall, ".0f"),
        ])  # fmt: skip
        quality.append([
            name,
            mean([run.validation for run in found.values()]),
            mean([run.validation - peer.validation for run, peer in pairs], "+.4f"),
            mean([run.test for run in found.values()]),
            mean([run.test - peer.test for run, peer in pairs], "+.4f"),
        ])  # fmt: skip
    return f"{table(cost)}\n\n{table(quality)}"


def median(found: dict[int, Run], value: Callable[[Run], float], form: str) -> str:
    return f"{statistics.median(map(value, found.values())):{form}}"


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"


def mean(values: list[float], form: str = ".4f") -> str:
    found = interval(values)
    return f"{found.mean:{form}} ± {found.half:.4f}" if values else "-"


if __name__ == "__main__":
    main()
