"""Choice of how many trials share a GPU, from measurements, and the cache of the measurements. Imports no Ray."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainables.base.cache import locked
from trainables.base.storage import atomic_write

COPIES = (1, 2, 4, 8)  # how many processes are measured side by side
PACKS = (8, 32)  # how many trials are measured in one process
MEMORY_MARGIN = 1.1  # this multiple of the measured memory must fit: later epochs may need a little more
TIE_TOLERANCE = 0.03  # a smaller relative difference in speed is noise; then fewer processes are safer
FORMAT = 2  # of the file; part of every key
CACHE_FILE = "gpu_shares.json"
INTEGER_FIELDS = ("copies", "peak", "outside", "pack", "steps_per_epoch")  # of Measurement


class DoesNotFit(ValueError):
    """The costliest configuration does not fit on a whole GPU; the message is one line for the user."""


@dataclass(frozen=True)
class Gpu:
    """A GPU model with its software, as a worker on its node sees it.

    Attributes:
        memory: total, bytes.
        torch: version of PyTorch there.
        mps: NVIDIA's multi-process service runs on the node; it changes the speed of processes that share the GPU.
    """

    name: str
    memory: int
    torch: str
    mps: bool

    def __str__(self) -> str:
        return f"{self.name}{' with MPS' if self.mps else ''}"


@dataclass(frozen=True, order=True)
class SharingLayout:
    """How equal trials share a GPU. Ordered: of two equally fast layouts the smaller is the safer choice.

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
class Measurement:
    """Speed and memory of `copies` processes side by side on one GPU, each with `pack` equal trials.

    The field names are those of the cache file.

    Attributes:
        steps_per_s: optimiser steps per second, summed over all trials; 0 after a failure.
        peak: most bytes that the tensors of one process reserved, the maximum over the processes.
        outside: bytes in use on the GPU besides the tensors of one process: its CUDA context. 0 unless copies is 1,
            since other processes' memory would be in it.
        failure: why the processes do not fit, "" if they ran.
        pack: trials in each process.
        steps_per_epoch: of a trial; 0 if unknown.
        validation_s: seconds for every process to validate its trials, one after the other.
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
    def layout(self) -> SharingLayout:
        return SharingLayout(self.pack, self.copies)

    @property
    def pace(self) -> float:
        """Return epochs per second with validation, summed over all trials; steps per second if epochs have no length.

        Example:
            2 processes of 4 trials, 8 epochs of 100 steps at 400 steps/s take 2 s, their validation another 2 s: 2.
        """
        if not (self.steps_per_epoch and self.steps_per_s):
            return self.steps_per_s
        trials = self.copies * self.pack
        return trials / (trials * self.steps_per_epoch / self.steps_per_s + self.validation_s)


def fits(measurement: Measurement, memory: int, context: int) -> bool:
    """Return whether the processes fit on a GPU: copies x (peak + context) x MEMORY_MARGIN <= memory, in bytes.

    A single process fits if it ran.

    Example:
        4 copies of 3 GiB and a context of 0.5 GiB need 4 x 3.5 x 1.1 = 15.4 GiB: 16 GiB are enough, 15 are not.
    """
    if measurement.failure:
        return False
    needed = measurement.copies * (measurement.peak + context) * MEMORY_MARGIN
    return measurement.copies == 1 or needed <= memory


def choose(measurements: Iterable[Measurement], memory: int, context: int) -> Measurement:
    """Return the fastest layout that fits; of those within TIE_TOLERANCE the smallest pack, then the fewest processes.

    Equal trials take equally many epochs, so most epochs per second are most trials per hour.

    Args:
        measurements: at least that of one process; all of the same configuration, so that paces have the same unit.
        memory: of the GPU, bytes.
        context: CUDA context of one process, bytes.

    Raises:
        DoesNotFit: not even one process fits.
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
    return min((m for m in fitting if m.pace >= best * (1 - TIE_TOLERANCE)), key=lambda m: m.layout)


def layouts_to_measure(packs: Iterable[int], max_processes: int) -> list[SharingLayout]:
    """Return the layouts of a probe: the smallest pack in COPIES up to `max_processes`, larger packs in one process."""
    packs = sorted(packs)
    return [
        SharingLayout(p, k) for p in packs for k in COPIES if k <= max_processes and (k == 1 or p == packs[0])
    ]


def context_bytes(measurements: Sequence[Measurement], minimum: int) -> int:
    """Return the CUDA context of one process in bytes, as measured on a single process, at least `minimum`."""
    return max([minimum, *(m.outside for m in measurements if m.copies == 1)])


def describe_measurements(measurements: Sequence[Measurement]) -> str:
    """Return the measurements in one line.

    Example:
        "1 copy 10.2 epochs/min, 2: 19.7, 4: 31, 8 copies do not fit, a pack of 8: 74; 3.1 GiB each, 5.2 GiB a pack"
    """
    parts = []
    for m in measurements:
        if m.failure:
            parts.append(f"{m.layout} {'does' if m.copies == 1 else 'do'} not fit")
        elif not parts:
            parts.append(f"{m.layout} {_pace(m)} {'epochs/min' if m.steps_per_epoch else 'steps/s'}")
        else:
            parts.append(f"{m.layout if m.pack > 1 else m.copies}: {_pace(m)}")
    single = [m.peak for m in measurements if m.pack == 1]
    packed = [m.peak for m in measurements if m.pack > 1]
    sizes = [f"{gib(max(peaks))} {what}" for peaks, what in ((single, "each"), (packed, "a pack")) if peaks]
    return f"{', '.join(parts)}; {', '.join(sizes)}"


def _pace(m: Measurement) -> str:
    return f"{m.pace * 60 if m.steps_per_epoch else m.pace:.3g}"


def gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"


# -- cache -------------------------------------------------------------------------------------------------


def measurement_key(
    gpu: Gpu,
    method: str,
    configuration: Mapping[str, Any],
    validation: Mapping[str, Any],
    layouts: Sequence[SharingLayout],
) -> str:
    """Return the cache key of a configuration's measurements: a hash of everything that they depend on.

    Args:
        configuration: the costliest of a lane; its seed, epochs and cache folder do not count.
        layouts: all that were to be measured.
    """
    counted = {k: v for k, v in configuration.items() if k not in ("seed", "cache_dir", "epochs")}
    parts = [FORMAT, asdict(gpu), method, counted, dict(validation), [asdict(layout) for layout in layouts]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class MeasurementCache:
    """Measurements of earlier runs, in a JSON file of the user's cache folder.

    Attributes:
        problem: one line on why the file could not be used, or "".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""

    def get(self, key: str) -> list[Measurement] | None:
        """Return the measurements of a key, or None if there are none or the file cannot be read."""
        entry = self._read().get(key)
        if entry is None:
            return None
        try:
            measurements = [checked(Measurement(**m)) for m in entry["measured"]]
            if not measurements:
                raise ValueError("an entry is empty")
            return measurements
        except (KeyError, TypeError, ValueError) as error:
            self.problem = f"{self.path} is damaged ({error}); measured again"
            return None

    def put(self, key: str, measurements: Sequence[Measurement], about: Mapping[str, Any]) -> None:
        """Add measurements; if the file cannot be written, `problem` says so and the next run measures again.

        Args:
            about: written beside them for people who read the file.
        """
        try:
            with locked(self.path.with_suffix(".lock")):
                entries = self._read() | {key: {**about, "measured": [asdict(m) for m in measurements]}}
                with atomic_write(self.path) as file:
                    file.write(json.dumps(entries, indent=2).encode())
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
        except (OSError, ValueError, RecursionError) as error:
            self.problem = f"{self.path} is damaged ({error}); measured again"
        return {}


def checked(measurement: Measurement) -> Measurement:
    """Return a measurement that was read from a file, with its fields converted to their types.

    Raises:
        ValueError, TypeError: a field is no number, negative or infinite, or there is no process or trial.
    """
    integers = {name: int(getattr(measurement, name)) for name in INTEGER_FIELDS}
    floats = {name: float(getattr(measurement, name)) for name in ("steps_per_s", "validation_s")}
    numbers = [*integers.values(), *floats.values()]
    if min(integers["copies"], integers["pack"]) < 1 or not all(0 <= x < math.inf for x in numbers):
        raise ValueError(f"{measurement} makes no sense")
    return replace(measurement, **integers, **floats)  # type: ignore[arg-type]
