"""Breaks a chosen call of the product from inside, in any of its processes. Lives in tests only.

Python imports this module at the start of every process whose PYTHONPATH names this folder: the driver and each Ray
worker. It wraps the functions of `EVENTS` when their modules are imported. At each call the wrapper reads
`$FAULTS_DIR/faults.json`, a list of

    {"at": "trainables.base.storage:Folder.write", "when": "before", "match": "epoch-0002", "call": 3, "times": 1,
     "do": "kill"}

and does what the entry says at the `call`-th matching call (counted over all processes and lives, or with
`"of": "workers"` over Ray's workers alone), `times` times. What was done stands in `fired`.
"""

import contextlib
import fcntl
import functools
import importlib.machinery
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path

EVENTS = (
    "search_spaces:get",
    "trainables.base.storage:Folder.write",
    "trainables.base.storage:Folder.read",
    "trainables.base.storage:os.fsync",
    "trainables.ray.trial_runner:TrialRunner._build",
    "trainables.ray.trial_runner:TrialRunner._step",
    "trainables.ray.trial_runner:validate",
    "trainables.training.checkpoints:pack",
    "trainables.training.method:Trainer.step",
    "tuner.execution.remote_tasks:load_benchmark",
    "tuner.execution.remote_tasks:pretrain",
    "tuner.execution.remote_tasks:pretrained_state",
    "tuner.execution.remote_tasks:evaluate_checkpoint",
    "optuna.storages._rdb.storage:RDBStorage._get_prepared_new_trial",  # these two inside a transaction
    "optuna.storages._rdb.storage:RDBStorage._set_trial_attr_without_commit",
    "optuna.storages._rdb.storage:RDBStorage.set_trial_state_values",
    "tuner.store.trial_store:TrialStore.ask",
    "tuner.store.trial_store:TrialStore.begin_attempt",
    "tuner.store.trial_store:TrialStore.report",
    "tuner.store.trial_store:TrialStore.finish",
    "tuner.store.trial_store:TrialStore.note",
    "tuner.execution.controller:Controller.prepare",
    "tuner.store.run_folder:RunFolder.create",
    "tuner.store.run_folder:RunFolder.update",
    "tuner.commands.stages:run_stages",
    "tuner.commands.publishing:write_report",
    "tuner.commands.winner_model:log_winner",
    "tuner.tracking.tracker:Tracker.close",
)
FOLDER = Path(os.environ.get("FAULTS_DIR", "/nonexistent"))


def in_worker() -> bool:
    """Return whether this is a Ray worker: begun as one, or forked from the server that has imported everything."""
    return any("default_worker.py" in word for word in (*sys.orig_argv, *sys.argv[:1]))


class Patcher(MetaPathFinder):
    """Wraps the events of a module right after it has been imported."""

    def find_spec(self, name, path=None, target=None):
        wanted = [event.partition(":")[2] for event in EVENTS if event.partition(":")[0] == name]
        spec = importlib.machinery.PathFinder.find_spec(name, path) if wanted else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if name == "search_spaces":  # the studies of these tests
                here = Path(__file__).parent
                module.__path__.append(str(here))
                module.NAMES += tuple(path.stem for path in sorted(here.glob("tiny*.py")))
            if name == "tuner.commands.stages":  # of a launch alone
                sign(FOLDER / "supervisor", os.getppid())
                sign(FOLDER / "driver")
            if name == "trainables.ray.trial_runner" and in_worker():
                sign_worker()
            if name == "trainables.ray.trial_runner" and "fork_server.py" in " ".join(sys.orig_argv):
                os.register_at_fork(after_in_child=sign_worker)
            for path_in_module in wanted:
                wrap(module, name, path_in_module)

        spec.loader.exec_module = exec_module
        return spec


def wrap(module, name: str, path: str) -> None:
    *owners, last = path.split(".")
    owner = module
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, last)
    event = f"{name}:{path}"

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        faults = armed(event)
        for fault in due_now(faults, "before", args, kwargs):
            act(fault)
        result = original(*args, **kwargs)
        for fault in due_now(faults, "after", args, kwargs):
            result = act(fault, result)
        return result

    setattr(owner, last, wrapped)


def armed(event: str) -> list:
    try:
        faults = json.loads((FOLDER / "faults.json").read_text())
    except FileNotFoundError:
        return []
    return [(number, fault) for number, fault in enumerate(faults) if fault["at"] == event]


def due_now(faults: list, when: str, args: tuple, kwargs: dict) -> list:
    """Let each entry count this call before the first of them acts: one that raises must not hide it from the rest."""
    return [
        fault for n, fault in faults if fault.get("when", "before") == when and due(n, fault, args, kwargs)
    ]


def due(number: int, fault: dict, args: tuple, kwargs: dict) -> bool:
    """Count a matching call, over all processes, and say whether it is the one."""
    if fault.get("of") == "workers" and not in_worker():
        return False
    plain = [str(value) for value in (*args, *kwargs.values()) if isinstance(value, (str, int))]
    if not re.search(fault.get("match", ""), " ".join(plain)):
        return False
    with open(FOLDER / f"count-{number}", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(".")
        file.flush()
        count = os.fstat(file.fileno()).st_size
    first = fault.get("call", 1)
    if not first <= count < first + fault.get("times", 1):
        return False
    with open(FOLDER / "fired", "a") as file:
        file.write(f"{os.getpid()} {fault['at']} {fault['do']} {' '.join(plain)[:100]}\n")
    return True


def act(fault: dict, result=None):
    """Do the damage, and return what the call returns in place of `result`."""
    return ACTIONS[fault["do"]](fault, result)


def kill(fault: dict, result):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_driver(fault: dict, result) -> None:
    end(FOLDER / "driver")


def kill_all(fault: dict, result) -> None:
    kill_driver(fault, result)
    kill_workers(fault, result)


def kill_launch(fault: dict, result) -> None:
    """End the supervisor too, which would end the workers."""
    end(FOLDER / "supervisor")
    kill_driver(fault, result)


def kill_workers(fault: dict, result) -> None:
    """End every worker that has imported the trainables; itself last."""
    own = FOLDER / f"worker-{os.getpid()}"
    for path in sorted(FOLDER.glob("worker-*"), key=lambda path: path == own):
        end(path)


def sign_worker() -> None:
    sign(FOLDER / f"worker-{os.getpid()}")


def sign(path: Path, number: int = 0) -> None:
    """Leave a process's number (by default one's own) and its start behind: numbers come back for other processes."""
    number = number or os.getpid()
    draft = FOLDER / f".{os.getpid()}"
    draft.write_text(f"{number} {started(number)}")
    draft.replace(path)


def end(path: Path) -> None:
    """Kill the process that signed a file, if it still lives."""
    number, start = map(int, path.read_text().split())
    path.unlink()
    if started(number) == start:
        os.kill(number, signal.SIGKILL)


def started(number: int) -> int:
    """Return the tick at which a process began, 0 if there is none."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def throw(fault: dict, result) -> None:
    raise eval(fault["error"])  # of the test that wrote it


def hang(fault: dict, result) -> None:
    time.sleep(10_000)


def freeze(fault: dict, result) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hog(fault: dict, result) -> None:
    """Take memory until somebody ends this process."""
    taken = []
    for _ in range(60):
        taken.append(bytearray(os.urandom(1 << 20)) * 256)
        time.sleep(0.1)
    raise AssertionError("nobody minded 15 GB")


def fill(fault: dict, result) -> None:
    """Take what room there is on a disk, with a file `filler`."""
    with contextlib.suppress(OSError), open(Path(fault["folder"]) / "filler", "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def run(fault: dict, result):
    subprocess.run(fault["command"], shell=True, check=True)
    return result


def put(fault: dict, result: dict) -> dict:
    return {**result, fault["name"]: float(fault["value"])}


def drop(fault: dict, result: dict) -> dict:
    return {name: value for name, value in result.items() if name != fault["name"]}


ACTIONS = {
    "kill": kill,
    "kill-driver": kill_driver,
    "kill-launch": kill_launch,
    "kill-workers": kill_workers,
    "kill-all": kill_all,
    "raise": throw,
    "hang": hang,
    "freeze": freeze,
    "hog": hog,
    "fill": fill,
    "run": run,
    "set": put,
    "drop": drop,
    "nothing": lambda fault, result: result,  # but count
}


if FOLDER.is_dir():
    sys.meta_path.insert(0, Patcher())
