"""Everything that is measured on a GPU, in one call of under ten minutes; the JSON it writes holds the tables.

    python benchmarks/gpu.py --out gpu.json [--budget 540] [--only steps,packed]
    python benchmarks/gpu.py --table gpu.json
    python benchmarks/gpu.py --device cpu --tiny --out dry.json      # every code path on a CPU; its times mean nothing

    limits       the card's bf16 matrix product and copy
    loader       the device loader beside a DataLoader
    packed       trials stacked in one process beside one at a time, the same PGD-AT epochs
    shares       processes side by side on the card, by time slices and with MPS, the same epochs again
    evaluation   PGD-100 and APGD beside their peers
    steps        training steps beside textbook loops, and the share of the card's limit
    choice       whether the probe's way of sharing the card is the best one (on Ray; best alone: --only choice)

The clock is the wall, arms take turns. Each row is written as soon as it is there; a section that fails or for which no
time is left says so in the file and the others go on. MPS is a daemon of this script's own, in a folder of its own;
no setting of the card is touched.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import choice
import evaluation
import loader
import torch
from alternate import alternate, machine, table
from steps import FAST, HEADING, LIMIT, Cell, Task, arms_of, cells, matrix_rate, measured_rows

from trainables.data.types.benchmark import LabelledImages
from trainables.functional.attacks import attack_mode
from trainables.packed import Replica, train_together

COLOUR = (3, 32, 32)
EPSILON = 8 / 255
#: Trials side by side in one process, and in processes of their own.
PACKS, PROCESSES = {"small_cnn": (4, 16, 64), "mobilenet_v3_small": (8, 32), "wrn_40_2": (4,)}, (1, 2, 4, 8)
SECONDS = 4.0  # that processes train side by side


class Suite:
    """The sections that have been measured, on disk after every row.

    Attributes:
        tiny: smallest sizes, to try every code path.
    """

    def __init__(self, device: str, tiny: bool, out: Path, budget_s: float) -> None:
        self.device, self.tiny, self.out = device, tiny, out
        self.until = time.monotonic() + budget_s
        self.command = " ".join(["python benchmarks/gpu.py", *sys.argv[1:]])
        card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
        self.about = [f"{card}; {machine('torch', 'torchvision').replace(', one thread', '')}"]
        self.sections: dict[str, list[list[str]]] = {}
        self.trouble: dict[str, str] = {}
        self.peak = 0.0

    def left(self, seconds: float) -> bool:
        """Return whether so many seconds are left."""
        return time.monotonic() + seconds < self.until

    def add(self, section: str, rows: list[list[str]]) -> None:
        self.sections.setdefault(section, []).extend(rows)
        for row in rows:
            print(f"{section}: {' | '.join(row)}", flush=True)
        content = vars(self) | {"out": str(self.out), "tables": tables(self.sections)}
        draft = self.out.with_suffix(".part")
        draft.write_text(json.dumps({k: v for k, v in content.items() if k != "until"}, indent=1))
        draft.replace(self.out)

    def run(self, name: str, section: Callable[["Suite"], None]) -> None:
        """Measure a section; what it raises is noted."""
        started = time.monotonic()
        try:
            section(self)
        except Exception as error:  # the other sections have cost as much to get here
            self.trouble[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"{name} failed: {self.trouble[name]}", flush=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        self.add(name, [])


HEADINGS = {
    "limits": ["what", "measured"],
    "loader": ["arm", "CPU us/image", "wall us/image", "images/s, wall", "times faster, CPU", "times faster, wall"],
    "packed": ["network", "trials", "ms per trial and step", "times faster than one at a time"],
    "shares": ["network", "processes", "sharing", "steps/s, all together", "times one process"],
    "evaluation": evaluation.HEADING,
    "steps": [*HEADING, LIMIT],
    "choice": choice.HEADING,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for everything")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: a dry run")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="measure nothing, print this file's tables"
    )
    parser.add_argument("--process", nargs=2, metavar=("NETWORK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table:
        content = json.loads(options.table.read_text())
        print("\n".join([content["command"], *content["about"], "", tables(content["sections"])]))
        print("\n".join(f"{name}: {text}" for name, text in content["trouble"].items()))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --device cpu --tiny tries the code paths")
    if options.process:
        process(options.device, options.tiny, options.process[0], Path(options.process[1]))
        return
    suite = Suite(options.device, options.tiny, options.out, options.budget)
    print(f"{suite.command}\n{suite.about[0]}", flush=True)
    for name in options.only.split(","):
        suite.run(name, SECTIONS[name])


def tables(sections: dict[str, list[list[str]]]) -> str:
    """Return a Markdown table for every section that has rows."""
    parts = []
    for name, rows in sections.items():
        if rows:
            heading = HEADINGS[name][: max(map(len, rows))]
            parts.append(f"{name}\n\n{table([heading, *rows])}")
    return "\n\n".join(parts)


# -- sections ------------------------------------------------------------------------------------------------


def limits(suite: Suite) -> None:
    if suite.device == "cpu":
        suite.add("limits", [["bf16 matrix product", "not on a CPU"]])
        return
    suite.peak = matrix_rate()
    source = torch.empty(2**30, dtype=torch.bfloat16, device="cuda")
    target = torch.empty_like(source)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    target.copy_(source)
    start.record()
    for _ in range(10):
        target.copy_(source)
    end.record()
    torch.cuda.synchronize()
    rate = 10 * 2 * source.nbytes / (start.elapsed_time(end) / 1e3)
    suite.add(
        "limits",
        [
            ["bf16 matrix product", f"{suite.peak / 1e12:.0f} TFLOP/s"],
            ["copy, read and written", f"{rate / 1e12:.2f} TB/s"],
        ],
    )


def loading(suite: Suite) -> None:
    count, rounds = (1_000, 1) if suite.tiny else (10_000, 3)
    suite.add("loader", loader.compared(suite.device, count, 128, rounds)[1:])


def task_of(device: str, tiny: bool, network: str, batches: int) -> Task:
    """Return images and a trained network; of a size that a trial shares with others."""
    if tiny:
        return Task(
            network, 8, torch.device(device), "memory", 1, (3, 32, 32) if network != "small_cnn" else None
        )
    return Task(network, 128, torch.device(device), "files", batches, COLOUR)


def adversarial(tiny: bool) -> Cell:
    """Return PGD-AT-10."""
    (cell,) = (cell for cell in cells(1 if tiny else 10) if cell.name == "pgd_at")
    return cell


def packed(suite: Suite) -> None:
    """One at a time, plain and in bf16, and stacked; alone, a trial's cost does not depend on how many there are."""
    for network, sizes in (
        PACKS.items() if not suite.tiny else [("small_cnn", (2,)), ("mobilenet_v3_small", (2,))]
    ):
        if not suite.left(100):
            suite.trouble[f"packed {network}"] = "no time left"
            return
        task, cell = task_of(suite.device, suite.tiny, network, 4), adversarial(suite.tiny)

        def trials(count: int, task: Task = task, cell: Cell = cell, **values: Any) -> list[Any]:
            found = []
            for k in range(count):
                own = {"lr": 1e-3 * (1 + k % 7), "attack.epsilon": EPSILON * (1 + k % 3), **values}
                found.append(task.method(cell, own))
                found[-1].loader.images, found[-1].loader.labels = (
                    found[0].loader.images,
                    found[0].loader.labels,
                )
            return found

        def together(methods: list[Any], number: int) -> None:
            for outcome in train_together([Replica("pgd_at", method, number) for method in methods]):
                if outcome.error is not None or outcome.remark:
                    raise RuntimeError(outcome.remark or str(outcome.error))

        alone, fast = trials(1)[0], trials(1, **FAST)[0]
        arms: dict[str, Callable[[int], Any]] = {
            "1": alone.train_epoch,
            "1, channels_last, bf16": fast.train_epoch,
            **{f"{size}, stacked": partial(together, trials(size)) for size in sizes},
        }
        for arm in arms.values():
            arm(0)
        measured = alternate({name: shifted(arm) for name, arm in arms.items()}, 1 if suite.tiny else 3)
        rows = []
        for name, arm in measured.items():
            size = int(name.split(",")[0])
            ratios = sorted(size * one / own for one, own in zip(measured["1"].wall, arm.wall, strict=True))
            per_step = 1e3 * arm.median("wall") / size / task.batches
            faster = f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            rows.append([network, name, f"{per_step:.2f}", "1" if name == "1" else faster])
        suite.add("packed", rows)


def shifted(arm: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return an arm for the epochs after the first, which warmed it up."""
    return lambda number: arm(number + 1)


def shares(suite: Suite) -> None:
    """Processes as Ray starts them on shares of a GPU: each with the network, the data and a context of its own."""
    daemon = shutil.which("nvidia-cuda-mps-control") if suite.device == "cuda" else None
    if daemon is None and suite.device == "cuda":
        suite.trouble["shares with MPS"] = "nvidia-cuda-mps-control is not on this machine"
    alone: dict[str, float] = {}
    for sharing in ("time slices", "MPS") if daemon else ("time slices",):
        with mps(daemon) if sharing == "MPS" else nothing() as environment:
            for network in ("small_cnn",) if suite.tiny else ("small_cnn", "mobilenet_v3_small", "wrn_40_2"):
                for count in (1, 2) if suite.tiny else PROCESSES:
                    if not suite.left(60):
                        suite.trouble[f"shares {network}, {sharing}"] = f"no time left for {count} processes"
                        break
                    rate = side_by_side(suite, network, count, environment)
                    alone.setdefault(network, rate)
                    suite.add(
                        "shares",
                        [[network, str(count), sharing, f"{rate:.1f}", f"{rate / alone[network]:.2f}"]],
                    )


@contextmanager
def nothing() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def mps(daemon: str | None) -> Iterator[dict[str, str]]:
    """Run a daemon of our own; yields the environment of its clients."""
    assert daemon is not None
    folder = tempfile.mkdtemp(prefix="mps")
    names = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
    subprocess.run([daemon, "-d"], env=os.environ | names, check=True, timeout=30)
    try:
        yield names
    finally:
        subprocess.run([daemon], input="quit\n", text=True, env=os.environ | names, timeout=60, check=False)


def side_by_side(suite: Suite, network: str, count: int, environment: dict[str, str]) -> float:
    """Return the steps per second of so many processes together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = ["--device", suite.device, *(["--tiny"] if suite.tiny else []), "--process", network, name]
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *flags],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        try:
            patience = time.monotonic() + 120
            while len(list(folder.glob("ready-*"))) < count:
                if time.monotonic() > patience or any(worker.poll() for worker in workers):
                    raise RuntimeError(f"{count} processes of {network} did not start")
                time.sleep(0.02)
            (folder / "go").touch()
            return sum(float(worker.communicate(timeout=120)[0].splitlines()[-1]) for worker in workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def process(device: str, tiny: bool, network: str, folder: Path) -> None:
    """Train one trial until the time is over, together with whoever else is ready, and print its steps per second."""
    task = task_of(device, tiny, network, 2)
    method = task.method(adversarial(tiny), {})
    for epoch in range(2):
        method.train_epoch(epoch)
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    epochs, started = 0, time.perf_counter()
    while time.perf_counter() - started < (0.5 if tiny else SECONDS):
        method.train_epoch(2 + epochs)
        epochs += 1
    print(epochs * task.batches / (time.perf_counter() - started))


def evaluating(suite: Suite) -> None:
    network, count = ("small_cnn", 8) if suite.tiny else ("preact_resnet18", 1_024)
    task = task_of(suite.device, suite.tiny, network, 8)
    robust = task.method(adversarial(suite.tiny), {})
    for epoch in range(1 if suite.tiny else 5):
        robust.train_epoch(epoch)
    data = LabelledImages(task.images[:count], task.labels[:count])
    for name, classifier in (("weak", task.initial), ("robust", robust.classifier())):
        for arms in (evaluation.pgd_arms, evaluation.apgd_arms):
            if not suite.left(60):
                suite.trouble[f"evaluation {name}"] = "no time left"
                return
            with attack_mode(classifier):
                measured = alternate(arms(classifier, data, EPSILON, suite.device), 1 if suite.tiny else 2)
            rows = evaluation.compared(measured, len(data.labels), "wall")
            suite.add("evaluation", [[name, "8/255", *row] for row in rows])


def training(suite: Suite) -> None:
    """The textbook's loop with a DataLoader beside ours in float32 and at its fastest."""
    plan = [("wrn_40_2", 128, 4), ("preact_resnet18", 128, 4), ("wrn_28_10", 128, 2), ("small_cnn", 128, 20)]
    wanted = ("AOE FGSM", "AOE PGD", "PGD-AT", "TRADES", "DyART")
    for network, batch, batches in [("small_cnn", 8, 1)] if suite.tiny else plan:
        shape = None if suite.tiny else COLOUR
        given = "memory" if suite.tiny else "files"
        task = Task(network, batch, torch.device(suite.device), given, batches, shape)
        for cell in cells(1 if suite.tiny else 10):
            if not cell.title.startswith(wanted if network == "wrn_40_2" or suite.tiny else ("PGD-AT",)):
                continue
            if not suite.left(45):
                suite.trouble[f"steps {network}, {cell.title}"] = "no time left"
                continue
            compiled = suite.device == "cuda" and suite.left(150) and cell.title.startswith("PGD-AT")
            arms = arms_of(task, cell, compiled)
            shown = ("textbook", "ours, float32", "ours, one pass", "ours, channels_last, bf16")
            arms = {
                k: arm
                for k, arm in arms.items()
                if k in shown or k.endswith(("compiled", "one pass, channels_last"))
            }
            suite.add("steps", measured_rows(task, cell, arms, 1 if suite.tiny else 3, suite.peak))


def choosing(suite: Suite) -> None:
    with choice.one_device(0 if suite.device == "cuda" else 2) as device:
        for network in ("small_cnn",) if suite.tiny else ("mobilenet_v3_small", "small_cnn"):
            if not suite.left(240):
                suite.trouble[f"choice {network}"] = "no time left"
                return
            sizes = (12, 1, 0.2) if suite.tiny else (48, 1, 5.0)
            suite.add("choice", choice.compared(network, device, *sizes))


SECTIONS: dict[str, Callable[[Suite], None]] = {
    "limits": limits,
    "loader": loading,
    "packed": packed,
    "shares": shares,
    "evaluation": evaluating,
    "steps": training,
    "choice": choosing,
}

if __name__ == "__main__":
    main()
