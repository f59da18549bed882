"""Dynamic batching of an iterative attack: finished rows leave the batch, waiting ones take their place.

The cost of an attack is the number of rows passed through the network. Most images are misclassified in the first few
steps, and those that never are stop changing early: kept in the batch until its last step, they would be most of it.
"""

from typing import Protocol

import torch
from torch import Tensor

#: {name: (rows, ...)}, "age" among them; one row is one image (and target) under attack.
Rows = dict[str, Tensor]

#: Steps between two checks which rows are finished; a check makes the host wait for a GPU.
INTERVAL = {"cpu": 1, "cuda": 5}
#: Smaller batches are not made smaller: below 4 rows a CPU multiplies with other kernels, which round differently,
#: and an image's iterates would depend on who is left beside it.
FEWEST = 8


class Attack(Protocol):
    """An attack in steps, which records its results itself."""

    def wanted(self, jobs: Tensor) -> Tensor:
        """Return (m,) which of the waiting jobs (m,) are still worth starting."""
        ...

    def begin(self, jobs: Tensor) -> Rows:
        """Return the rows of jobs (m,), m at least 1."""
        ...

    def step(self, rows: Rows) -> None:
        """Advance every row by one step, in place; a finished row may be advanced too, to no effect."""
        ...

    def finished(self, rows: Rows) -> Tensor:
        """Return (rows,) which rows need no further steps; a finished row stays finished."""
        ...


def run_attack(attack: Attack, jobs: Tensor, size: int) -> None:
    """Run every job to its end.

    Args:
        jobs: (m,) int64, in the order in which they begin; m may be 0.
        size: rows at a time.
    """
    interval = INTERVAL[jobs.device.type]
    rows: Rows = {}
    count = 0
    while True:
        if len(jobs) and count < size:
            jobs = jobs[attack.wanted(jobs)]
        if len(jobs) and count < size:
            fresh, jobs = attack.begin(jobs[: size - count]), jobs[size - count :]
            rows = {name: torch.cat([rows[name], fresh[name]]) for name in fresh} if rows else fresh
        if not rows:
            return
        for _ in range(interval):
            attack.step(rows)
        rows = _without(attack.finished(rows), rows)
        count = len(rows["age"]) if rows else 0


def _without(finished: Tensor, rows: Rows) -> Rows:
    """Return the unfinished rows, and finished ones that fill the batch up to `padded_size`; all if none can go."""
    going = ~finished
    count = int(going.sum())
    if count == 0:
        return {}
    size = padded_size(count)
    if size >= len(going):
        return rows
    chosen = going.int().argsort(descending=True)[:size]
    return {name: value[chosen] for name, value in rows.items()}


def padded_size(count: int) -> int:
    """Return the batch size for `count` unfinished rows: one of few sizes, up to a quarter larger than needed.

    oneDNN prepares its kernels anew for every batch size, which takes as long as a step: with a size for every
    number of unfinished rows, a tenth of an attack.

    Example:
        3 -> 8, 50 -> 56, 100 -> 112, 200 -> 224: multiples of 8 up to 64, of 16 up to 128, of 32 up to 256
    """
    step = max(FEWEST, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step
