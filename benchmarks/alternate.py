"""Compare arms in one process: by turns, in alternating order, on the process's CPU clock and on the wall clock."""

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Measured:
    """The seconds of one arm in each round, and what it returned."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    found: list[Any] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median CPU time of a round."""
        return self.median("cpu")

    def median(self, clock: str) -> float:
        """Return the median time of a round on a clock, "cpu" or "wall"."""
        return statistics.median(getattr(self, clock))

    def times_faster(self, peer: "Measured", clock: str = "cpu") -> str:
        """Return "median (smallest to largest)" of the rounds' own ratios."""
        pairs = zip(getattr(peer, clock), getattr(self, clock), strict=True)
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def alternate(arms: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, Measured]:
    """Call every arm once a round with the round's number, which serves as a seed; every other round backwards."""
    measured = {name: Measured() for name in arms}
    for number in range(rounds):
        names = list(arms) if number % 2 == 0 else list(arms)[::-1]
        for name in names:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            found = arms[name](number)
            measured[name].cpu.append(time.process_time() - cpu)
            measured[name].wall.append(time.perf_counter() - wall)
            measured[name].found.append(found)
    return measured


def machine(*packages: str) -> str:
    """Return a line on the processor and the versions of packages."""
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    system = f"{platform.system()} {platform.machine()}, {name}, one thread"
    return f"{system}; Python {platform.python_version()}, {versions}"


def line(cells: list[str]) -> str:
    """Return one row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is the heading."""
    return "\n".join([line(rows[0]), "|" + "---|" * len(rows[0]), *map(line, rows[1:])])
