"""What the service and its tracking cost the driver: CPU per result and per trial, beside plain Ray Tune.

    python benchmarks/overhead.py [--repeats 3] [--sizes 8x300,100x1,2000x1] [--only ours,ours-quiet]

A size is TRIALSxEPOCHS of a trainable that does nothing and reports ten metrics; four at a time on pretend CPUs,
actors reused. The sides take turns, each in a process of its own:

    ours          storage, decisions, sampler and MLflow (SQLite), as a study runs them
    ours-quiet    the same without MLflow
    raw           `tune.Tuner` with Ray's MLflowLoggerCallback, no other logger
    raw-batch     the same with a callback of thirty lines that sends a result in one `log_batch`
    raw-quiet     `tune.Tuner` without any logger
    optuna        Optuna alone, `study.optimize(n_jobs=1)` on SQLite: no processes, no tracking, nothing to lose
    optuna-wal    the same with SQLite's write-ahead log, as ours has it
    optuna-4      the same with n_jobs=4, which are threads

CPU is that of the driver's process, all its threads, and of the processes that it keeps for tracking, from the first
trial until MLflow has everything; starting Ray and importing are left out. Wall time is shown for scale only.
"""

import argparse
import json
import logging
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("ours", "ours-quiet", "raw", "raw-batch", "raw-quiet", "optuna", "optuna-wal", "optuna-4")
SLOTS = 4
OBJECTIVE = "val/score"
METRICS = {OBJECTIVE: 0.5} | {f"val/m{k}": k / 7 for k in range(6)} | {f"train/m{k}": k / 7 for k in range(3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", default="8x300,100x1,2000x1")
    parser.add_argument("--only", default=",".join(SIDES))
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], *map(int, options.one[1].split("x")))))
        return
    print(f"python benchmarks/overhead.py --repeats {options.repeats} --sizes {options.sizes}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna", "mlflow"))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}; Python {platform.python_version()}, {packages}")
    print(
        "\n| trials x results | side | CPU ms per result | CPU ms per trial | wall s | memory MB | MLflow MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes.split(","):
        found: dict[str, list[dict[str, float]]] = {side: [] for side in options.only.split(",")}
        for _ in range(options.repeats):
            for side, rows in found.items():
                rows.append(in_own_process(side, size))
        for side, rows in found.items():
            print(row(size, side, rows), flush=True)


def in_own_process(side: str, size: str) -> dict[str, float]:
    """Measure one side once, with a Ray and an MLflow store of its own."""
    session = tempfile.mkdtemp(prefix="ro", dir="/tmp")  # Ray's sockets need a short path
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "RAY_", "TUNE_"))}
    environment |= {"RAY_TMPDIR": session, "PYTHONPATH": str(ROOT)}
    try:
        command = [sys.executable, str(Path(__file__).resolve()), "--one", side, size]
        done = subprocess.run(
            command, cwd=session, env=environment, check=True, capture_output=True, text=True
        )
        values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return values
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{side} {size} failed:\n{error.stderr[-3000:]}") from None
    finally:
        shutil.rmtree(session, ignore_errors=True)


def row(size: str, side: str, rows: list[dict[str, float]]) -> str:
    """Return a line of the table: medians, and the range of what is asked."""
    trials, epochs = map(int, size.split("x"))

    def shown(divisor: int) -> str:
        values = [1000 * r["cpu"] / divisor for r in rows]
        return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"

    rest = [f"{statistics.median(r[name] for r in rows):.1f}" for name in ("wall", "memory", "store")]
    return (
        f"| {trials} x {epochs} | {side} | {shown(trials * epochs)} | {shown(trials)} | {' | '.join(rest)} |"
    )


def measure(side: str, trials: int, epochs: int) -> dict[str, float]:
    """Run one side in the current folder and return its CPU and wall seconds, peak memory and store size in MB."""
    from tuner.base import environment

    if side.startswith("ours"):
        environment.apply_defaults()
    else:
        os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    import mlflow  # all that is imported is imported before the clock starts
    import optuna
    import ray

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    mlflow.MlflowClient("sqlite:///mlflow.db").search_experiments()  # makes the tables
    if not side.startswith("optuna"):
        ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    if side.startswith("ours"):
        run = prepare_ours(trials, epochs, side == "ours")
    elif side.startswith("raw"):
        run = prepare_raw(trials, epochs, side)
    else:
        run = prepare_optuna(trials, epochs, side)
    children, wall, cpu = child_cpu_s(), time.perf_counter(), time.process_time()
    run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    check(trials, epochs, side)
    ray.shutdown()
    return {
        "cpu": cpu + child_cpu_s() - children if side == "ours" else cpu,
        "wall": wall,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "store": Path("mlflow.db").stat().st_size / 1e6,
    }


def child_cpu_s() -> float:
    """Return the CPU seconds of the children of this process that are there for tracking."""
    import psutil

    times = [
        c.cpu_times()
        for c in psutil.Process().children()
        if "tuner.tracking.tracker" in " ".join(c.cmdline())
    ]
    return sum(t.user + t.system for t in times)


def prepare_ours(trials: int, epochs: int, tracked: bool) -> Callable[[], None]:
    """Return the search stage of a study of one lane, with a trainable that does nothing."""
    import search_spaces
    from search_spaces.domain import Float
    from search_spaces.study import Objective
    from trainables.ray.assets import Assets
    from tuner.base import environment
    from tuner.base.records import TrialRole
    from tuner.execution import ray_tune_adapter
    from tuner.execution.trial_queue import Lane, TrialQueue
    from tuner.planning.launch_options import LaunchOptions
    from tuner.planning.resolve import resolve
    from tuner.search.schedulers import schedule
    from tuner.store.database import open_storage
    from tuner.store.trial_store import TrialStore
    from tuner.tracking.listener import TrackingListener
    from tuner.tracking.tracker import Tracker

    ray_tune_adapter.StudyTrainable = noop()  # type: ignore[attr-defined,misc]
    plan = resolve(LaunchOptions(search_spaces.NAMES[0]), "overhead")
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    objectives = (Objective(OBJECTIVE),)

    def run() -> None:
        store = TrialStore(
            open_storage("sqlite:///study.db"), "overhead", "search", TrialRole.SEARCH, space, objectives, 0
        )
        tracker = Tracker("sqlite:///mlflow.db", "overhead", "overhead", "overhead", Path("mlflow.spool"), {})
        listeners = []
        if tracked:
            tracker.start()
            listeners.append(TrackingListener(tracker, plan, environment.describe("")))
        queue = TrialQueue(
            [Lane(store, "aoe", {}, trials, 0)], objectives, seed=0, max_epochs=epochs,
            schedule=schedule("none", 1, 3, epochs), listeners=listeners,
        )  # fmt: skip
        ray_tune_adapter.run_queue(
            queue, assets=Assets(None), run_uri=os.getcwd(), validation={}, resources={"cpu": 1},  # type: ignore[arg-type]
            concurrency=SLOTS, log=lambda key, text: None, file_written=lambda key, name: None,
            splits_opened=lambda names: None, asked_to_stop=lambda: False,
        )  # fmt: skip
        if tracked and (tracker.close("FINISHED", 600) or tracker.problems):
            raise SystemExit(f"MLflow did not take everything: {tracker.problems}")

    return run


def prepare_raw(trials: int, epochs: int, side: str) -> Callable[[], None]:
    """Return the same number of trials and results on Ray Tune alone."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    callback: Any = None
    if side == "raw":
        callback = MLflowLoggerCallback(tracking_uri="sqlite:///mlflow.db", experiment_name="overhead")
    elif side == "raw-batch":
        callback = batching_callback()

    def run() -> None:
        tune.Tuner(
            tune.with_resources(noop(), {"cpu": 1}),
            param_space={"x": tune.uniform(0, 1), "y": tune.uniform(0, 1), "epochs": epochs},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(
                name="tune", storage_path=os.getcwd(), verbose=0, callbacks=[callback] if callback else None
            ),
        ).fit()

    return run


def batching_callback() -> Any:
    """Return what somebody would write who minds the cost: a run per trial, one `log_batch` per result."""
    import mlflow
    from mlflow.entities import Metric, Param
    from ray import tune

    class Batching(tune.Callback):
        def setup(self, **info: Any) -> None:
            self.client = mlflow.MlflowClient("sqlite:///mlflow.db")
            self.experiment = self.client.create_experiment("overhead")
            self.runs: dict[str, str] = {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            run = self.client.create_run(self.experiment, run_name=trial.trial_id).info.run_id
            params = [Param(name, str(value)) for name, value in trial.config.items()]
            self.client.log_batch(run, params=params)
            self.runs[trial.trial_id] = run

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            now, step = int(time.time() * 1000), result["epoch"]
            metrics = [Metric(name, result[name], now, step) for name in METRICS]
            self.client.log_batch(self.runs[trial.trial_id], metrics)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.client.set_terminated(self.runs[trial.trial_id])

    return Batching()


def prepare_optuna(trials: int, epochs: int, side: str) -> Callable[[], None]:
    """Return the same number of trials and results of an objective that does nothing, on Optuna alone."""
    import optuna

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.0, 1.0)
        for epoch in range(epochs):
            trial.report(METRICS[OBJECTIVE], epoch)
        return METRICS[OBJECTIVE]

    def run() -> None:
        storage = optuna.storages.RDBStorage("sqlite:///study.db")
        if side == "optuna-wal":
            _write_ahead(storage)
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=trials, n_jobs=SLOTS if side == "optuna-4" else 1)

    return run


def _write_ahead(storage: Any) -> None:
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()


def noop() -> Any:
    """Return the trainable that does nothing."""
    from ray import tune

    class Noop(tune.Trainable):
        def setup(self, config: dict[str, Any], assets: Any = None) -> None:
            self.done_epochs, self.epochs = 0, config.get("epochs", sys.maxsize)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.done_epochs += 1
            done = self.done_epochs >= self.epochs
            return METRICS | {"epoch": self.done_epochs, "checkpoint": "none", "done": done}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

    return Noop


def check(trials: int, epochs: int, side: str) -> None:
    """End with an error unless MLflow has every trial and every result exactly once."""
    if side not in ("ours", "raw", "raw-batch"):  # they have no MLflow
        return
    import sqlite3

    with sqlite3.connect("mlflow.db") as database:
        query = "SELECT COUNT(*), COUNT(DISTINCT run_uuid) FROM metrics WHERE key = ?"
        found = database.execute(query, (OBJECTIVE,)).fetchone()
    if found != (trials * epochs, trials):
        raise SystemExit(f"MLflow has {found} (results, trials), not {(trials * epochs, trials)}")


if __name__ == "__main__":
    main()
