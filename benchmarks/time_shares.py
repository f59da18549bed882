"""How the wall time of a default study divides, and which processes take its CPU time; beside another checkout.

    python benchmarks/time_shares.py [--against FOLDER [--rounds 3]] [--study aoe_sigma] [launch.py options]

Training and validation are the trials' own seconds divided by the number of trials at a time; what is left of the
search and confirm stages is the start of workers and scheduling. CPU seconds and memory are read four times a second
from every process below the launch, so that a process's last quarter of a second is missing. `--against` runs the
launch.py of another checkout (a worktree of an earlier commit, say) by turns with this one; medians are printed.
"""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
#: {part of a command line: what the process is}, in this order
KINDS = {
    "DashboardAgent": "Ray's agents",
    "RuntimeEnvAgent": "Ray's agents",
    "runtime_env/agent": "Ray's agents",
    "gcs_server": "Ray's GCS and raylet",
    "raylet/raylet": "Ray's GCS and raylet",  # its command line names scripts of workers
    "fork_server.py": "workers (preparation, trials, evaluation)",
    "worker_start.py": "workers (preparation, trials, evaluation)",
    "ray::": "workers (preparation, trials, evaluation)",
    "default_worker.py": "workers (preparation, trials, evaluation)",
    "dashboard/dashboard": "Ray's dashboard, monitor, log monitor",
    "monitor": "Ray's dashboard, monitor, log monitor",
    "launch.py": "driver and supervisor",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--study", default="aoe_sigma")
    options, more = parser.parse_known_args()
    sides = {"here": ROOT, **({"there": options.against.resolve()} if options.against else {})}
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    versions = {}
    for number in range(options.rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            rows, versions = measured(sides[side], ["--study", options.study, *more])
            rounds[side].append(rows)
            print(f"round {number + 1}, {side}: {rows['total']:.0f} s", file=sys.stderr, flush=True)
    against = " --against FOLDER" if options.against else ""
    print(
        f"python benchmarks/time_shares.py{against} --rounds {options.rounds} --study {options.study}", *more
    )
    print(f"{versions['machine']}; Python {platform.python_version()}, torch {versions['torch']}", end="")
    print(f", ray {versions['ray']}; medians of {options.rounds}\n")
    print(f"| | {' | '.join(sides)} |\n|---|{'---|' * len(sides)}")
    for name in dict.fromkeys(name for side in rounds.values() for name in side[0]):
        values = [statistics.median(rows.get(name, 0.0) for rows in side) for side in rounds.values()]
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")


def measured(root: Path, arguments: list[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Run a study with an empty cache, and return {what: seconds, MB for memory} and the versions it ran with."""
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{work}/cache"}
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, str(root / "launch.py"), *arguments, "--run-name", "timed"]
        launch = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL)
        run = Path(work) / "runs" / "timed"
        processes, memory = watched(launch, run / "console.log")
        if launch.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit status {launch.returncode}")
        timings = json.loads((run / "timings.json").read_text())
        trained, validated = trial_seconds(run / "study.db")
        versions: dict[str, str] = json.loads((run / "plan.json").read_text())["versions"]
    rows = {
        "imports, start of the process": timings["imports"],
        "Ray start": timings["ray"],
        "data, pretrained classifiers": timings["prepare"],
        "training": trained / timings["concurrency"],
        "validation": validated / timings["concurrency"],
        "final evaluation": timings.get("evaluate", 0.0),
        "report": timings.get("report", 0.0),
        "logging (waiting for MLflow)": timings.get("logging", 0.0),
    }
    rows["start of workers, scheduling, model registry"] = timings["total"] - sum(rows.values())
    return {"total": timings["total"], **rows, **processes, "memory of the driver, MB": memory}, versions


def watched(launch: subprocess.Popen[bytes], log: Path) -> tuple[dict[str, float], float]:
    """Wait for a launch; return {"CPU, kind of process": seconds} and the most memory of its driver in MB."""
    used: dict[int, tuple[str, float]] = {}
    memory, before = 0.0, dict[str, float]()
    top = psutil.Process(launch.pid)
    while launch.poll() is None:
        for process in [top, *_below(top)]:
            try:
                command, times = " ".join(process.cmdline()), process.cpu_times()
                # one that is ending has no command line any more
                kind = kind_of(command) if command else used.get(process.pid, ("others", 0.0))[0]
                used[process.pid] = kind, times.user + times.system
                if kind == "driver and supervisor":
                    memory = max(memory, process.memory_info().rss / 2**20)
            except psutil.Error:
                continue  # it has ended
        if not before and log.exists() and " epoch 1" in log.read_text():
            before = by_kind(used, "CPU before the first epoch")
        time.sleep(0.25)
    return {**before, **by_kind(used, "CPU")}, memory


def by_kind(used: dict[int, tuple[str, float]], what: str) -> dict[str, float]:
    """Return {"what, kind of process": seconds} of {process: (kind, seconds)}, and their sum."""
    kinds: dict[str, float] = {}
    for kind, seconds in used.values():
        kinds[f"{what}, {kind}"] = kinds.get(f"{what}, {kind}", 0.0) + seconds
    return {**dict(sorted(kinds.items())), f"{what}, all": sum(kinds.values())}


def _below(top: psutil.Process) -> list[psutil.Process]:
    try:
        return top.children(recursive=True)
    except psutil.Error:
        return []


def kind_of(command: str) -> str:
    """Return what a process is, by its command line."""
    return next((kind for part, kind in KINDS.items() if part in command), "others")


def trial_seconds(database: Path) -> tuple[float, float]:
    """Return the seconds that all trials spent in training and in validation."""
    with sqlite3.connect(database) as connection:
        values = connection.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key LIKE 'epoch/%'"
        ).fetchall()
    found = [json.loads(value) for (value,) in values]
    metrics = [
        entry.get("value", entry)["metrics"] for entry in found
    ]  # earlier checkouts kept no checksum beside it
    validated = sum(m["seconds_validation"] for m in metrics)
    return sum(m["seconds"] for m in metrics) - validated, validated


if __name__ == "__main__":
    main()
