"""How many trials share a GPU, decided from measurements, and where the measurements are remembered. Knows no Ray."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from trainables.data.cache import locked, write_atomically

COPIES = (1, 2, 4, 8)  # how many copies of a trial are measured side by side
MARGIN = 1.1  # so many times the measured memory must fit: later epochs may need a little more
TIE = 0.03  # what is faster by less than this share is noise, and the smaller number of copies is safer
FORMAT = 1  # of the file; part of every key
FILE = "gpu_shares.json"


class DoesNotFit(ValueError):
    """The largest configuration does not fit on a whole device; the message is one line for the user."""


@dataclass(frozen=True)
class Gpu:
    """One kind of device, as a worker on its node sees it.

    Attributes:
        memory: bytes in all.
        torch: version there.
        mps: NVIDIA's multi-process service runs on the node; it changes what copies cost each other.
    """

    name: str
    memory: int
    torch: str
    mps: bool

    def __str__(self) -> str:
        return f"{self.name}{' with MPS' if self.mps else ''}"


@dataclass(frozen=True)
class Measured:
    """So many copies of a trial, side by side on one device.

    Attributes:
        steps_per_s: optimiser steps per second, summed over the copies; 0 if they failed.
        peak: bytes that the tensors of one copy reserved at most, the largest of the copies.
        outside: bytes in use on the device beside the tensors of one copy: its context. Told apart from its
            neighbours' only where it is alone; 0 elsewhere.
        failure: why they do not fit, "" if they ran.
    """

    copies: int
    steps_per_s: float = 0.0
    peak: int = 0
    outside: int = 0
    failure: str = ""


def fits(measured: Measured, memory: int, context: int) -> bool:
    """Return whether the copies fit on a device: copies x (peak + context) x MARGIN within its memory, in bytes.

    A copy alone has nothing to be held to: it fits if it ran.

    Example:
        4 copies of 3 GiB and a context of 0.5 GiB need 4 x 3.5 x 1.1 = 15.4 GiB: 16 GiB are enough, 15 are not.
    """
    if measured.failure:
        return False
    return measured.copies == 1 or measured.copies * (measured.peak + context) * MARGIN <= memory


def choose(measurements: Sequence[Measured], memory: int, context: int) -> int:
    """Return how many copies share a device: the fastest together of those that fit, of near ties the fewest.

    Equal trials take equally many steps, so most steps per second are most trials per hour.

    Args:
        measurements: at least that of one copy.
        memory: of the device, bytes.
        context: bytes of one process before its first tensor.

    Raises:
        DoesNotFit: not even one copy does.
    """
    fitting = [m for m in measurements if fits(m, memory, context)]
    if not fitting:
        reason = next((m.failure for m in measurements if m.failure), "nothing was measured")
        raise DoesNotFit(
            f"the largest configuration does not fit on a whole device of {gib(memory)} ({reason}); "
            "a smaller batch_size or network would"
        )
    best = max(m.steps_per_s for m in fitting)
    return min(m.copies for m in fitting if m.steps_per_s >= best * (1 - TIE))


def context_of(measurements: Sequence[Measured], least: int) -> int:
    """Return the bytes that a process has beside its tensors, as measured on a copy alone, at least `least`."""
    return max([least, *(m.outside for m in measurements if m.copies == 1)])


def describe(measurements: Sequence[Measured]) -> str:
    """Return the measurements in one line.

    Example:
        "1 copy 10.2 steps/s, 2: 19.7, 4: 31, 8 do not fit; 3.1 GiB each"
    """
    parts = []
    for m in measurements:
        if m.failure:
            parts.append(f"{m.copies} {'does' if m.copies == 1 else 'do'} not fit")
        else:
            parts.append(f"{m.copies}{' copy' if m.copies == 1 else ':'} {m.steps_per_s:.3g}")
    if parts and not measurements[0].failure:
        parts[0] += " steps/s"
    peak = max((m.peak for m in measurements), default=0)
    return ", ".join(parts) + f"; {gib(peak)} each"


def gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"


# -- what is remembered ------------------------------------------------------------------------------------


def key_of(
    gpu: Gpu, method: str, configuration: Mapping[str, Any], validation: Mapping[str, Any], most: int
) -> str:
    """Return the name of a measurement: a hash of all that it depends on.

    Args:
        configuration: the largest, with network, batch size and threads; its seed and cache folder do not count.
        most: the largest number of copies that was to be tried.
    """
    counted = {k: v for k, v in configuration.items() if k not in ("seed", "cache_dir", "epochs")}
    parts = [FORMAT, asdict(gpu), method, counted, dict(validation), most]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Remembered:
    """Measurements of earlier runs, in one JSON file of the user's cache folder.

    Attributes:
        problem: a line on why the file could not be used, or "".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""

    def get(self, key: str) -> list[Measured] | None:
        """Return a measurement, or None where there is none or the file cannot be read."""
        found = self._read().get(key)
        if found is None:
            return None
        try:
            measured = [checked(Measured(**m)) for m in found["measured"]]
            if not measured:
                raise ValueError("an entry is empty")
            return measured
        except (KeyError, TypeError, ValueError) as error:
            self.problem = f"{self.path} is damaged ({error}); measured again"
            return None

    def put(self, key: str, measurements: Sequence[Measured], about: Mapping[str, Any]) -> None:
        """Add a measurement; a file that cannot be written is said and costs the next run its own probe.

        Args:
            about: what it is of, for people who read the file.
        """
        try:
            with locked(self.path.with_suffix(".lock")):
                entries = self._read() | {key: {**about, "measured": [asdict(m) for m in measurements]}}
                text = json.dumps(entries, indent=2).encode()

                def write(file: IO[bytes]) -> None:
                    file.write(text)

                write_atomically(self.path, write)
        except OSError as error:
            self.problem = f"the measured GPU share cannot be kept: {error}"

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_text())
            if isinstance(entries, dict):
                return entries
            raise ValueError("not a JSON object")
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self.problem = f"{self.path} is damaged ({error}); measured again"
        return {}


def checked(measured: Measured) -> Measured:
    """Return a measurement whose numbers are numbers.

    Raises:
        ValueError, TypeError: they are not.
    """
    copies, peak, outside = int(measured.copies), int(measured.peak), int(measured.outside)
    rate = float(measured.steps_per_s)
    if copies < 1 or min(peak, outside, rate) < 0 or rate != rate:
        raise ValueError(f"{measured} makes no sense")
    return replace(measured, copies=copies, steps_per_s=rate, peak=peak, outside=outside)
