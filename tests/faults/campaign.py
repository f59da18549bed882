"""Random faults in whole studies, beside the same studies undisturbed: how many were injected, and what was lost.

    python -m tests.faults.campaign [--seed 1] [--faults 6] [--only cmaes,robgan]

Each case is a study with other code under it: samplers, methods, several objectives, packed trials, two workers, five
runs at once in one folder and one database. A fault is SIGKILL of a worker, the driver or all, at a random call of a
random event (see hook/sitecustomize.py); the run is resumed after each. "Lost" counts what differs at the end: with
one trial at a time every value, to the last bit; with several, trials that are missing, doubled or changed after
their end.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.conftest import Faults, Study, at, in_folder, integrity
from tests.faults.truth import differences, ended, miscounts, mlflow_runs, run_id_of, studies, truth_of

#: What breaks, where: {event: kinds of damage}.
EVENTS: dict[str, tuple[str, ...]] = {
    "trainables.training.method:Trainer.step": ("kill", "kill-all", "kill-driver"),
    "trainables.base.storage:os.fsync": ("kill", "kill-all"),
    "trainables.base.storage:Folder.write": ("kill", "kill-all"),
    "trainables.ray.trial_runner:validate": ("kill", "kill-driver"),
    "tuner.execution.remote_tasks:pretrained_state": ("kill", "kill-all"),
    "tuner.execution.remote_tasks:evaluate_checkpoint": ("kill", "kill-all"),
    "tuner.store.trial_store:TrialStore.ask": ("kill", "kill-workers"),
    "tuner.store.trial_store:TrialStore.report": ("kill", "kill-workers"),
    "tuner.store.trial_store:TrialStore.finish": ("kill", "kill-workers"),
    "tuner.store.trial_store:TrialStore.note": ("kill",),
    "optuna.storages._rdb.storage:RDBStorage.set_trial_state_values": ("kill",),
    "tuner.commands.publishing:write_report": ("kill",),
    "tuner.commands.winner_model:log_winner": ("kill",),
    "tuner.tracking.tracker:Tracker.close": ("kill",),
}
NUMBERS = ("--sampler", "cmaes", "--trials", "6", "--set", "attack.name=pgd")
GRID = ("--sampler", "grid", "--set", "attack.epsilon=choice(0.05, 0.1)", "--set", "lr=choice(0.001, 0.003)")


@dataclass(frozen=True)
class Case:
    """A study and how it is run.

    Attributes:
        workers: trials at a time; with one a run is repeated to the last bit.
        at_once: runs that share a folder and a database.
    """

    name: str
    study: str = "tiny"
    options: tuple[str, ...] = ()
    workers: int = 1
    at_once: int = 1

    @property
    def is_exact(self) -> bool:
        return self.workers == 1


CASES = (
    Case("tpe"),
    Case("cmaes", options=NUMBERS),
    Case("grid", options=GRID),
    Case("pareto", "tiny_pareto"),
    Case("robgan", "tiny_robgan"),
    Case("ant", "tiny_ant"),
    Case("two workers", workers=2, options=("--trials", "5", "--stages", "search")),
    Case("packed", workers=4, options=("--trials", "5", "--stages", "search", "--pack", "2")),
    Case("five at once", at_once=5),
)


@dataclass
class Tally:
    """What was done to the runs of a case, and what came of it."""

    faults: list[str] = field(default_factory=list)
    launches: int = 0
    lost: list[str] = field(default_factory=list)
    tracebacks: int = 0
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=6, help="in each run")
    parser.add_argument("--only", default=",".join(case.name for case in CASES))
    options = parser.parse_args()
    chosen = [case for case in CASES if case.name in options.only.split(",")]
    print(f"python -m tests.faults.campaign --seed {options.seed} --faults {options.faults}\n")
    print("| case | faults | launches | lost | tracebacks | seconds |\n|---|---|---|---|---|---|", flush=True)
    failed = False
    for case in chosen:
        folder = Path(tempfile.mkdtemp(prefix="campaign-"))
        tally = carry_out(case, folder, options.seed, options.faults)
        print(
            f"| {case.name} | {len(tally.faults)} | {tally.launches} | {len(tally.lost)} | {tally.tracebacks} "
            f"| {tally.seconds:.0f} |",
            flush=True,
        )
        for line in tally.lost[:20]:
            print(f"    {line}", file=sys.stderr)
        failed |= bool(tally.lost or tally.tracebacks)
        if not tally.lost:
            shutil.rmtree(folder)
    return int(failed)


def carry_out(case: Case, folder: Path, seed: int, faults: int) -> Tally:
    """Run a case undisturbed once, and with random faults."""
    started = time.monotonic()
    with study_in(folder / "whole") as study:
        whole, calls = undisturbed(case, study)
    tally = Tally()
    with study_in(folder / "disturbed") as study, ThreadPoolExecutor(case.at_once) as pool:
        url = f"sqlite:///{folder / 'shared.db'}" if case.at_once > 1 else ""
        runs = [
            pool.submit(
                disturb, case, beside(study, number), f"run-{number}", url, calls, seed, faults, tally
            )
            for number in range(case.at_once)
        ]
        for run in runs:
            tally.lost += run.result()
        for number in range(case.at_once):
            tally.lost += compare(case, study, f"run-{number}", url, whole)
    tally.seconds = time.monotonic() - started
    return tally


@contextmanager
def study_in(folder: Path) -> Iterator[Study]:
    folder.mkdir()
    yield from in_folder(folder)


def beside(study: Study, number: int) -> Study:
    """Return runs in the same folder whose faults are their own."""
    folder = study.faults.folder / str(number)
    folder.mkdir()
    faults = Faults(folder)
    launcher = type(study.launcher)(study.launcher.folder, study.launcher.environment | faults.environment)
    return Study(launcher, faults)


def command(case: Case, name: str, url: str = "") -> list[str]:
    where = ["--study-storage", url] if url else []
    return [
        "--study",
        case.study,
        "--run-name",
        name,
        "--concurrency",
        str(case.workers),
        *case.options,
        *where,
    ]


def undisturbed(case: Case, study: Study) -> tuple[dict[str, Any], dict[str, int]]:
    """Return all that the run comes to, and how often each event happens in it."""
    study.faults.arm(*(at(event, "nothing", times=10**9) for event in EVENTS))
    done = study.launcher.run(*command(case, "run"), timeout=900)
    assert done.code == 0, done.out + done.err
    calls = {event: study.faults.count(number) for number, event in enumerate(EVENTS)}
    return truth_of(study.folder("run")) if case.is_exact else {}, calls


def disturb(
    case: Case, study: Study, name: str, url: str, calls: dict[str, int], seed: int, faults: int, tally: Tally
) -> list[str]:
    """Run with so many faults, each within its share of the run, and return what was changed after its end."""
    draw = random.Random(f"{case.name} {name} {seed}")
    lost: list[str] = []
    before: dict[str, Any] = {}
    arguments = command(case, name, url)
    for number in range(faults + 1):
        event = draw.choice([event for event, count in calls.items() if count])
        call = 1 + draw.randrange(max(1, calls[event] // faults))
        study.faults.arm(
            *(
                [at(event, draw.choice(EVENTS[event]), call=call, after=draw.random() < 0.5)]
                if number < faults
                else []
            )
        )
        done = study.launcher.run(*arguments, timeout=900)
        tally.launches += 1
        tally.faults += study.faults.fired
        tally.tracebacks += (done.out + done.err).count("Traceback")
        if done.code == 0:
            return lost
        if (study.folder(name) / "plan.json").exists():
            arguments = ["--resume", name, *(["--study-storage", url] if url else [])]
        if not case.is_exact and (study.folder(name) / "plan.json").exists():
            database = url or f"sqlite:///{study.folder(name) / 'study.db'}"
            known = ended(studies(database, run_id_of(study.folder(name))))
            lost += [f"{key} changed after its end" for key in before if known.get(key) != before[key]]
            before = known
    return [*lost, f"{name}: exit status {done.code}: {done.err[-500:]}"]


def compare(case: Case, study: Study, name: str, url: str, whole: dict[str, Any]) -> list[str]:
    """Return what a disturbed run lacks, or has besides what it should have."""
    run = study.folder(name)
    if not url and integrity(run / "study.db") != "ok":
        return ["the database is damaged"]
    if case.is_exact:
        return differences(whole, truth_of(run, url))
    trials = int(case.options[case.options.index("--trials") + 1])
    tracked = mlflow_runs(f"sqlite:///{study.launcher.folder / 'mlflow.db'}", run_id_of(run))
    return miscounts(studies(f"sqlite:///{run / 'study.db'}", run_id_of(run)), tracked, trials)


if __name__ == "__main__":
    sys.exit(main())
