"""Training steps beside plain textbook ones, in one run: time per step, passes, waits for the device.

    python benchmarks/steps.py             # WRN-40-2 in CIFAR shape and the digits' small CNN; 5 to 10 minutes of CPU
    python benchmarks/steps.py --quick     # two cells, few rounds
    python benchmarks/steps.py --device cuda --network wrn_28_10 --batch 128

Arms of a cell take turns. Ours is the method's own epoch of a few batches; the textbook loop (`textbook.py`) takes
the same images from memory, on a GPU (or with --input files) from a DataLoader with PIL transforms. The clock is the
process's CPU time on one thread; on a GPU it is the wall, and the last column is the share of the measured bf16 rate
of a matrix product that the method's least passes reach. F-eq. are FLOPs in units of one forward pass per inlier;
waits are reads back from the device per step; the loss is that of the first epoch, from the same weights.
"""

import argparse
import copy
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from alternate import alternate, line, machine, table
from loader import Pictures
from textbook import Textbook
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry

from trainables.base.streams import Streams
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import DatasetInfo, Split
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.classifiers import StandardOptions
from trainables.options.methods import METHODS
from trainables.training.method import Context

CLASSES, EPSILON = 10, 8 / 255
SHAPES = {"small_cnn": (1, 8, 8)}
FAST = {"precision": "bf16", "channels_last": True}
HEADING = [
    "network, batch",
    "method",
    "arm",
    "class",
    "ms",
    "images/s",
    "times faster",
    "F-eq.",
    "waits",
    "loss",
]
LIMIT = "of the bf16 limit"
Arms = dict[str, tuple[str, Callable[[int], float]]]
#: Operations that make the host wait for a GPU.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


@dataclass(frozen=True)
class Cell:
    """One method: how ours and the textbook call it, and its least forward-equivalents per inlier image."""

    title: str
    name: str
    textbook: str
    options: dict[str, Any]
    steps: int
    least: float
    attacks: bool = True


def cells(steps: int) -> list[Cell]:
    attack = {"attack.epsilon": EPSILON, "attack.steps": steps}
    fab = {"boundary.search": "fab", "boundary.steps": 2 * steps, "grad_clip": 0.0}
    return [
        Cell("standard", "standard", "standard", {}, 0, 3, attacks=False),
        Cell("OE", "oe", "oe", {}, 0, 6, attacks=False),
        Cell("AOE FGSM", "aoe", "aoe_fgsm", {**attack, "attack.name": "fgsm"}, 1, 8),
        Cell(f"AOE PGD-{steps}", "aoe", "aoe_pgd", {**attack, "attack.name": "pgd"}, steps, 6 + 2 * steps),
        Cell(f"PGD-AT-{steps}", "pgd_at", "pgd_at", attack, steps, 3 + 2 * steps),
        Cell(f"TRADES-{steps}", "trades", "trades", attack, steps, 7 + 2 * steps),
        Cell(f"MART-{steps}", "mart", "mart", attack, steps, 6 + 2 * steps),
        Cell(f"DyART FAB-{2 * steps}", "dyart", "dyart", fab, 2 * steps, 9 + 4 * steps),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--network", action="append", help="repeatable; default wrn_40_2 and small_cnn")
    parser.add_argument("--batch", type=int, default=0, help="inliers per step; 0: 16, small_cnn 64")
    parser.add_argument("--only", default="", help="methods whose title contains this")
    parser.add_argument("--steps", type=int, default=10, help="attack steps; FAB takes twice as many")
    parser.add_argument("--rounds", type=int, default=0, help="0: 3, with --quick 2")
    parser.add_argument("--input", choices=("memory", "files"), default="", help="of the textbook's loop")
    parser.add_argument("--compile", action="store_true", help="one arm more, with torch.compile")
    parser.add_argument("--quick", action="store_true", help="AOE FGSM and PGD-AT only, 2 rounds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = options.rounds or (2 if options.quick else 3)
    given = options.input or ("memory" if options.device == "cpu" else "files")
    print(" ".join(["python benchmarks/steps.py", *sys.argv[1:]]))
    print(machine("torch", "torchvision"), flush=True)
    peak = matrix_rate() if options.device == "cuda" else 0.0
    if peak:
        print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in a bf16 matrix product")
    print(table([[*HEADING, LIMIT] if peak else HEADING]), flush=True)
    for network in options.network or ["wrn_40_2", "small_cnn"]:
        batch = options.batch or (64 if network == "small_cnn" else 16)
        task = Task(network, batch, torch.device(options.device), given)
        for cell in cells(options.steps):
            wanted = options.only.lower() in cell.title.lower()
            if options.quick:
                wanted &= cell.title.startswith(("AOE FGSM", "PGD-AT"))
            elif not options.only and network != "small_cnn" and options.device == "cpu":
                wanted &= cell.name not in ("oe", "mart")  # within minutes; their passes are those of others
            if wanted:
                for row in measured_rows(task, cell, arms_of(task, cell, options.compile), rounds, peak):
                    print(line(row), flush=True)


# -- the task ------------------------------------------------------------------------------------------------


class Task:
    """Images whose class is a bright block, uniform noise as outliers, and a network that has learnt the classes."""

    def __init__(
        self,
        network: str,
        batch: int,
        device: torch.device,
        given: str,
        batches: int = 0,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        """Make the images and train the network.

        Args:
            given: where the textbook's images come from, "memory" or "files".
            batches: in an epoch; 0: enough for the clock.
            shape: of an image; None: the network's usual one.
        """
        self.network, self.batch, self.device, self.given = network, batch, device, given
        self.batches = batches or (20 if device.type == "cuda" else 5 if network == "small_cnn" else 1)
        self.shape = shape or SHAPES.get(network, (3, 32, 32))
        rng = np.random.default_rng(0)
        count = batch * self.batches
        self.labels = rng.integers(CLASSES, size=count)
        self.images = rng.integers(0, 150, size=(count, *self.shape)).astype(np.uint8)
        side = self.shape[1] // 4
        for image, label in zip(self.images, self.labels, strict=True):
            row, column = divmod(int(label), 4)
            image[:, row * side : (row + 1) * side, column * side : (column + 1) * side] += 100
        self.outliers = rng.integers(0, 256, size=(count, *self.shape)).astype(np.uint8)
        info = DatasetInfo(
            "blocks", CLASSES, self.shape, (0.3,) * self.shape[0], (0.2,) * self.shape[0], builtin=True
        )
        parts = {Split.TRAIN: {"id": LabelledImages(self.images, self.labels)}}
        self.data = Benchmark(info, parts, stage="search")
        epochs = max(1, 20 // self.batches)
        learner = Standard(
            build(StandardOptions, {"network": network, "batch_size": batch, "epochs": epochs}),
            self.context(),
        )
        for epoch in range(epochs):
            learner.train_epoch(epoch)
        self.weights = copy.deepcopy(learner.network.state_dict())
        self.initial = learner.network

    def context(self) -> Context:
        streams = Streams(0, self.device)
        return Context(
            self.data, streams, self.device, lambda: self.weights, lambda _options, _seed: self.outliers
        )

    def method(self, cell: Cell, values: dict[str, Any]) -> Any:
        """Return our method, from the trained weights, at a small constant learning rate."""
        entry = METHODS[cell.name]
        fixed = {
            "network": self.network,
            "batch_size": self.batch,
            "epochs": 100,
            "optimizer": "sgd",
            "lr": 1e-3,
        }
        fixed |= {"schedule": "constant"} | (
            {} if cell.name in ("oe", "aoe", "dyart") else {"from_pretrained": True}
        )
        return entry.load_method()(build(entry.options, fixed | cell.options | values), self.context())

    def textbook_batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give inliers, labels and outliers of one epoch on the device."""
        if self.given == "memory":
            for rows in torch.randperm(len(self.labels)).split(self.batch):
                x, z = (
                    torch.from_numpy(a)[rows].to(self.device).float() / 255
                    for a in (self.images, self.outliers)
                )
                yield x, torch.from_numpy(self.labels)[rows].to(self.device), z
            return
        with_labels, without = (
            torch.utils.data.DataLoader(
                Pictures(LabelledImages(a, self.labels), augmented=False), self.batch, True, drop_last=True
            )
            for a in (self.images, self.outliers)
        )
        for (x, y), (z, _) in zip(with_labels, without, strict=True):
            yield x.to(self.device), y.to(self.device), z.to(self.device)


# -- arms ----------------------------------------------------------------------------------------------------


def arms_of(task: Task, cell: Cell, compiled: bool = False) -> Arms:
    """Return {arm: (class, an epoch that returns its mean loss)}; the first arm is the peer."""

    def plain(backward: bool) -> Callable[[int], float]:
        loop = Textbook(copy.deepcopy(task.initial), EPSILON, cell.steps, backward)
        step = getattr(loop, cell.textbook)
        return lambda _: float(np.mean([step(*batch) for batch in task.textbook_batches()]))

    def ours(values: dict[str, Any]) -> Callable[[int], float]:
        method = task.method(cell, values)
        read = method.trainer.epoch_means

        def uncounted() -> dict[str, float]:
            with _disable_current_modes():  # reads once an epoch, which is a few steps short here
                means: dict[str, float] = read()
            return means

        method.trainer.epoch_means = uncounted
        return lambda number: method.train_epoch(number)["loss"]

    arms = {"textbook": ("peer", plain(False))}
    if cell.attacks and (task.batches > 1 or cell.name == "pgd_at"):
        arms["textbook, loss.backward()"] = ("peer", plain(True))
    if cell.name == "aoe":
        arms["ours, joint batch in train mode"] = ("exact", ours({"attack_bn": "train"}))
    base = "declared" if cell.name == "aoe" else "exact"
    arms["ours, float32"] = (base, ours({}))
    if cell.name == "dyart":
        one = {"boundary.search": "fab_onepass"}
        arms["ours, one pass"] = ("declared", ours(one))
        arms["ours, one pass, channels_last"] = ("declared", ours(one | {"channels_last": True}))
        arms["ours, one pass, channels_last, bf16"] = ("approximate", ours(one | FAST))
        return arms
    arms["ours, channels_last"] = (base, ours({"channels_last": True}))
    arms["ours, bf16"] = ("approximate", ours({"precision": "bf16"}))
    arms["ours, channels_last, bf16"] = ("approximate", ours(FAST))
    if compiled:
        arms["ours, channels_last, bf16, compiled"] = ("approximate", ours({**FAST, "compile": True}))
    return arms


def measured_rows(task: Task, cell: Cell, arms: Arms, rounds: int, peak: float) -> list[list[str]]:
    """Return one row for each arm of a cell, with the share of the limit if `peak` gives it."""
    with Counts() as single:
        task.initial.eval()(torch.zeros(1, *task.shape, device=task.device))
    images = task.batch * task.batches
    counted = {}
    for name, (_, run) in arms.items():  # also warms up
        if name.endswith("compiled"):
            run(0)
        with Counts() as counts:
            loss = run(0)
        counted[name] = counts.flops / single.flops / images, counts.waits / task.batches, loss
    measured = alternate({name: run for name, (_, run) in arms.items()}, rounds)
    clock = "cpu" if task.device.type == "cpu" else "wall"
    peer, rows = measured["textbook"], []
    for name, arm in measured.items():
        seconds = arm.median(clock)
        row = [
            f"{task.network}, {task.batch}",
            cell.title,
            name,
            arms[name][0],
            f"{1e3 * seconds / task.batches:.1f}",
        ]
        row += [f"{images / seconds:.0f}", "1" if arm is peer else arm.times_faster(peer, clock)]
        row += [f"{counted[name][0]:.1f}", f"{counted[name][1]:.0f}", f"{counted[name][2]:.3f}"]
        if peak:
            row.append(f"{100 * cell.least * single.flops * images / seconds / peak:.1f} %")
        rows.append(row)
    return rows


class Counts(TorchDispatchMode):
    """Counts FLOPs of convolutions and matrix products, and operations that would make the host wait for a GPU."""

    flops = waits = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, given = function.overloadpacket, kwargs or {}
        masked = packet.__name__ in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.waits += packet.__name__ in WAITS or masked
        found = function(*args, **given)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **given, out_val=found)
        return found


def matrix_rate(size: int = 8192, repeats: int = 50) -> float:
    """Return the FLOP/s of a large bf16 matrix product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (start.elapsed_time(end) / 1e3)


if __name__ == "__main__":
    main()
