"""How the wall time of a default study divides. Runs one study and prints shares of that one run.

    python benchmarks/time_shares.py [--study aoe_sigma] [launch.py options]

Training and validation are the trials' own seconds divided by the number of trials at a time; what is left of the
search and confirm stages is actor start and scheduling.
"""

import json
import platform
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    arguments = sys.argv[1:] or ["--study", "aoe_sigma"]
    if "--study" not in arguments:
        arguments = ["--study", "aoe_sigma", *arguments]
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, str(ROOT / "launch.py"), *arguments, "--run-name", "timed"]
        subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
        run = Path(work) / "runs" / "timed"
        timings = json.loads((run / "timings.json").read_text())
        trained, validated = trial_seconds(run / "study.db")
        versions = json.loads((run / "plan.json").read_text())["versions"]
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
    rows["actor start, scheduling, model registry"] = timings["total"] - sum(rows.values())
    print(f"python benchmarks/time_shares.py {' '.join(arguments)}")
    print(
        f"{versions['machine']}; Python {platform.python_version()}, torch {versions['torch']}, ray {versions['ray']}"
    )
    print(f"\ntotal {timings['total']:.0f} s, one run\n\n| part | seconds | share |\n|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.1f} | {100 * seconds / timings['total']:.0f} % |")


def trial_seconds(database: Path) -> tuple[float, float]:
    """Return the seconds that all trials spent in training and in validation."""
    with sqlite3.connect(database) as connection:
        values = connection.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key LIKE 'epoch/%'"
        ).fetchall()
    metrics = [json.loads(value)["value"]["metrics"] for (value,) in values]
    validated = sum(m["seconds_validation"] for m in metrics)
    return sum(m["seconds"] for m in metrics) - validated, validated


if __name__ == "__main__":
    main()
