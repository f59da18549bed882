"""How trials share a GPU, decided from measurements, and where the measurements are remembered. Knows no Ray."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from trainables.base.cache import locked, write_atomically

COPIES = (1, 2, 4, 8)  # how many processes are measured side by side
PACKS = (8, 32)  # how many trials are measured in one process
MARGIN = 1.1  # so many times the measured memory must fit: later epochs may need a little more
TIE = 0.03  # what is faster by less than this share is noise, and the smaller number of copies is safer
FORMAT = 2  # of the file; part of every key
FILE = "gpu_shares.json"
WHOLE = ("copies", "peak", "outside", "pack", "steps_per_epoch")  # fields of Measured that are whole numbers


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


@dataclass(frozen=True, order=True)
class Way:
    """A way for equal trials to share a device; the smaller is the safer.

    Attributes:
        pack: trials in each process, see docs/packing.md.
        copies: processes side by side.
    """

    pack: int = 1
    copies: int = 1

    def __str__(self) -> str:
        if self.pack == 1:
            return "1 copy" if self.copies == 1 else f"{self.copies} copies"
        return f"{'a pack' if self.copies == 1 else f'{self.copies} packs'} of {self.pack}"


@dataclass(frozen=True)
class Measured:
    """So many processes, side by side on one device, each with one trial or a pack of equal ones.

    Attributes:
        steps_per_s: optimiser steps per second, summed over all trials; 0 if they failed.
        peak: bytes that the tensors of one process reserved at most, the largest of the processes.
        outside: bytes in use on the device beside the tensors of one process: its context. Told apart from its
            neighbours' only where it is alone; 0 elsewhere.
        failure: why they do not fit, "" if they ran.
        pack: trials in each process.
        steps_per_epoch: of a trial; 0 where it is not known.
        validation_s: seconds in which every process validates its trials, one after the other.
    """

    copies: int
    steps_per_s: float = 0.0
    peak: int = 0
    outside: int = 0
    failure: str = ""
    pack: int = 1
    steps_per_epoch: int = 0
    validation_s: float = 0.0

    @property
    def way(self) -> Way:
        return Way(self.pack, self.copies)

    @property
    def pace(self) -> float:
        """Return epochs per second, validated, summed over all trials; steps per second where epochs have no length.

        Example:
            2 processes of 4 trials, 8 epochs of 100 steps at 400 steps/s take 2 s, their validation another 2 s: 2.
        """
        if not (self.steps_per_epoch and self.steps_per_s):
            return self.steps_per_s
        trials = self.copies * self.pack
        return trials / (trials * self.steps_per_epoch / self.steps_per_s + self.validation_s)


def fits(measured: Measured, memory: int, context: int) -> bool:
    """Return whether the processes fit on a device: copies x (peak + context) x MARGIN within its memory, in bytes.

    A process alone has nothing to be held to: it fits if it ran.

    Example:
        4 copies of 3 GiB and a context of 0.5 GiB need 4 x 3.5 x 1.1 = 15.4 GiB: 16 GiB are enough, 15 are not.
    """
    if measured.failure:
        return False
    return measured.copies == 1 or measured.copies * (measured.peak + context) * MARGIN <= memory


def choose(measurements: Iterable[Measured], memory: int, context: int) -> Measured:
    """Return how trials share a device: the fastest together of what fits, of near ties the smallest pack, then the
    fewest processes.

    Equal trials take equally many epochs, so most epochs per second are most trials per hour.

    Args:
        measurements: at least that of one process; all of one trial, so that their paces are in one unit.
        memory: of the device, bytes.
        context: bytes of one process before its first tensor.

    Raises:
        DoesNotFit: not even one process does.
    """
    measurements = list(measurements)
    fitting = [m for m in measurements if fits(m, memory, context)]
    if not fitting:
        reason = next((m.failure for m in measurements if m.failure), "nothing was measured")
        raise DoesNotFit(
            f"the largest configuration does not fit on a whole device of {gib(memory)} ({reason}); "
            "a smaller batch_size or network would"
        )
    best = max(m.pace for m in fitting)
    return min((m for m in fitting if m.pace >= best * (1 - TIE)), key=lambda m: m.way)


def ways_of(packs: Iterable[int], most: int) -> list[Way]:
    """Return what is to be measured: every size of pack in up to `most` processes, but those of PACKS in one."""
    packs = sorted(packs)
    return [Way(p, k) for p in packs for k in COPIES if k <= most and (k == 1 or p == packs[0])]


def context_of(measurements: Sequence[Measured], least: int) -> int:
    """Return the bytes that a process has beside its tensors, as measured on a copy alone, at least `least`."""
    return max([least, *(m.outside for m in measurements if m.copies == 1)])


def describe(measurements: Sequence[Measured]) -> str:
    """Return the measurements in one line.

    Example:
        "1 copy 10.2 epochs/min, 2: 19.7, 4: 31, 8 copies do not fit, a pack of 8: 74; 3.1 GiB each, 5.2 GiB a pack"
    """
    parts = []
    for m in measurements:
        if m.failure:
            parts.append(f"{m.way} {'does' if m.copies == 1 else 'do'} not fit")
        elif not parts:
            parts.append(f"{m.way} {_pace(m)} {'epochs/min' if m.steps_per_epoch else 'steps/s'}")
        else:
            parts.append(f"{m.way if m.pack > 1 else m.copies}: {_pace(m)}")
    alone = [m.peak for m in measurements if m.pack == 1]
    packed = [m.peak for m in measurements if m.pack > 1]
    sizes = [f"{gib(max(peaks))} {what}" for peaks, what in ((alone, "each"), (packed, "a pack")) if peaks]
    return f"{', '.join(parts)}; {', '.join(sizes)}"


def _pace(measured: Measured) -> str:
    return f"{measured.pace * 60 if measured.steps_per_epoch else measured.pace:.3g}"


def gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"


# -- what is remembered ------------------------------------------------------------------------------------


def key_of(
    gpu: Gpu,
    method: str,
    configuration: Mapping[str, Any],
    validation: Mapping[str, Any],
    ways: Sequence[Way],
) -> str:
    """Return the name of a measurement: a hash of all that it depends on.

    Args:
        configuration: the largest, with network, batch size and threads; its seed and cache folder do not count.
        ways: what was to be tried.
    """
    counted = {k: v for k, v in configuration.items() if k not in ("seed", "cache_dir", "epochs")}
    parts = [FORMAT, asdict(gpu), method, counted, dict(validation), [asdict(way) for way in ways]]
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
    whole = {name: int(getattr(measured, name)) for name in WHOLE}
    real = {name: float(getattr(measured, name)) for name in ("steps_per_s", "validation_s")}
    numbers = [*whole.values(), *real.values()]
    if min(whole["copies"], whole["pack"]) < 1 or not all(0 <= number < math.inf for number in numbers):
        raise ValueError(f"{measured} makes no sense")
    return replace(measured, **whole, **real)  # type: ignore[arg-type]
