"""Checks a user's own data before anything starts: layout, numbers, balance, copies, every image. No torch."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from trainables.base.errors import DataFileError
from trainables.data.loading.data_sheet import as_saved
from trainables.data.loading.duplicates import CORRUPTED, exact_hashes, overlaps, repeats, sets_of
from trainables.data.loading.from_files import IN_MEMORY_BYTES, Parts, own_sets, undecoded, validation_notes
from trainables.data.loading.leakage import leaks
from trainables.data.loading.open_dataset import load
from trainables.data.loading.own_facts import balance_notes
from trainables.data.readers.array_pictures import ArrayPictures
from trainables.data.readers.own_sets import SIDES
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import access_told
from trainables.data.types.lazy_images import DECODERS, FileSource, LazyImages, Source
from trainables.data.types.picture_files import class_folders, loose_pictures, other_files, picture_files
from trainables.data.types.splits import DatasetInfo, Split

Array = np.ndarray

CHECK_S = 20.0  #: images are looked into for so long; a set with more is checked by a sample
FEW_TESTS = 100  #: below, an accuracy of 90 % is known to 6 points at best
FEW_OOD = 50
_BATCH = 8 * DECODERS
_BLOCK = 256  #: images of an array that are read at a time
_FOLDERS = ("train", "val", "test", "ood")


@dataclass
class Examination:
    """What was found in a data set of the user's own.

    Attributes:
        info: None where not even its classes can be counted.
        parts: the sets, not decoded; {} where they cannot be read.
        problems: each would end a launch; one line.
        notes: what the user should know, one line each.
        looked_into: how many images were read, and how many there are.
    """

    info: DatasetInfo | None = None
    parts: Parts = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked_into: tuple[int, int] = (0, 0)


def check_own_data(
    dataset: str,
    data_dir: str,
    allow_duplicates: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Return what the user should know of their data, one line each; no lines for a data set that is not their own.

    Raises:
        DataFileError: class folders that differ, an OOD set where it is not read, no image for validation, copies of
            test images among those to train on, an image that cannot be read.
    """
    if not DATASETS[dataset].users_own:
        return []
    found = examine(dataset, data_dir, allow_duplicates, clock)
    if found.problems:
        raise DataFileError(found.problems[0])
    return found.notes


def examine(
    dataset: str,
    data_dir: str,
    allow_duplicates: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Examination:
    """Return what is found in a data set; what is wrong with it is in `problems`.

    Published and built-in ones are counted and looked into, too; what the user cannot change is no problem of theirs.
    """
    found, spec = Examination(), DATASETS[dataset]
    try:
        found.info = dataset_info(dataset, data_dir)
        built_in = spec.files is None and not spec.sets
        if built_in:
            found.parts = {split: dict(sets) for split, sets in load(dataset, data_dir).parts.items()}
        else:
            with access_told():
                found.parts = undecoded(dataset, data_dir)
    except DataFileError as error:
        found.problems.append(str(error))
        return found
    if not spec.users_own:
        found.notes += _check_images(dataset, found, clock)
        return found
    checks: tuple[Callable[[], list[str]], ...] = (
        lambda: validation_notes(_known(found), found.parts),
        lambda: _numbers(_known(found), found.parts),
        lambda: _enlarged(_known(found), found.parts),
        lambda: _copies(found.parts, allow_duplicates),
        lambda: _check_images(dataset, found, clock),
        lambda: _unread(dataset, data_dir),
    )
    for check in checks:
        try:
            with access_told():
                found.notes += check()
        except DataFileError as error:
            found.problems.append(str(error))
    return found


def _known(found: Examination) -> DatasetInfo:
    assert found.info is not None
    return found.info


# -- the checks, each returns notes or raises DataFileError ----------------------------------------------------


def _copies(parts: Parts, allow_duplicates: bool) -> list[str]:
    """Look for the same file or array image in two sets and within one; other pixels are compared once loaded."""
    sets = {
        name: data
        for name, data in sets_of(parts, CORRUPTED).items()
        if _source_of(data, FileSource, ArrayPictures)
    }
    if (
        sum(int(data.images.nbytes) for data in sets.values() if _source_of(data, ArrayPictures))
        > IN_MEMORY_BYTES
    ):
        return []  # told by the comparison of pixels
    try:
        hashes = exact_hashes(sets)
    except DataFileError:
        return []  # images that cannot be used are told by the check that reads all of them
    leaks(
        overlaps(sets, alike=False, hashes=hashes), True, allow_duplicates
    )  # its notes come with the pixels
    return repeats(sets, hashes)


def _check_images(dataset: str, found: Examination, clock: Callable[[], float]) -> list[str]:
    """Read the images of all sets in random order until all are read or the time is over."""
    places: list[tuple[Source, Array]] = []
    for data in (data for sets in found.parts.values() for data in sets.values()):
        images: object = data.images
        if isinstance(images, LazyImages):
            size = _BLOCK if isinstance(images.source, ArrayPictures) else 1
            places += [(images.source, images.rows[at : at + size]) for at in range(0, len(images), size)]
    count = sum(len(rows) for _, rows in places)
    order = iter(np.random.default_rng(0).permutation(len(places)).tolist())
    broken: list[str] = []
    done, end = 0, clock() + CHECK_S
    with ThreadPoolExecutor(DECODERS) as pool:
        while done < count and clock() < end:
            batch = [places[place] for place in islice(order, _BATCH)]
            broken += filter(None, pool.map(lambda place: _problem(*place), batch))
            done += sum(len(rows) for _, rows in batch)
    found.looked_into = done, count
    if broken:
        count_of_others = f"{len(broken) - 1} more of {done} images" if len(places) == count else "others"
        more = f" (and {count_of_others} cannot be used)" if len(broken) > 1 else ""
        raise DataFileError(f"{min(broken)}{more}")
    if done < count:
        return [
            f"{dataset}: {done} of {count} images were looked into, a random sample; all of them are whole"
        ]
    return []


def _problem(source: Source, rows: Array) -> str:
    """Return what is wrong with one picture, or with the first of an array that cannot be used; "" if nothing is."""
    try:
        if isinstance(source, ArrayPictures):
            source.pixels(rows)
        else:
            source.picture(int(rows[0]))
    except DataFileError as error:
        return str(error)
    return ""


def _numbers(info: DatasetInfo, parts: Parts) -> list[str]:
    """Tell classes of very different size, and tests that are too small to tell much."""
    lines = balance_notes(info, parts)
    tests = len(parts[Split.TEST_ID]["id"])
    if tests < FEW_TESTS:
        half = 196 * math.sqrt(0.09 / tests)
        lines.append(
            f"{info.name}: {tests} test images; an accuracy of 90 % is known to ± {half:.0f} points at best"
        )
    small = [
        f"{name} ({len(data)})"
        for split in (Split.TEST_OOD_NEAR, Split.TEST_OOD_FAR, Split.VAL_OOD_NEAR, Split.VAL_OOD_FAR)
        for name, data in parts.get(split, {}).items()
        if len(data) < FEW_OOD
    ]
    if small:
        lines.append(
            f"{info.name}: OOD sets of under {FEW_OOD} images, of which little can be told: {', '.join(small)}"
        )
    return lines


def _enlarged(info: DatasetInfo, parts: Parts) -> list[str]:
    """Tell pictures all of which are smaller than what the network gets: nothing is gained, and it costs time."""
    side = as_saved(parts).get("shorter_side", max(info.shape))
    best = max(side, SIDES[0])  # what dataset.json may say
    if best >= min(info.shape[1:]):
        return []
    gain = "takes them as they are" if side == best else "enlarges them least"
    return [
        f"{info.name}: no picture is larger than {side} pixels at its shorter side, and all are enlarged to "
        f'{info.shape[2]} x {info.shape[1]}; "side": {best} in dataset.json {gain}'
    ]


def _unread(dataset: str, data_dir: str) -> list[str]:
    """Tell files that are there and not read."""
    spec = DATASETS[dataset]
    if spec.sets:
        own = own_sets(spec, data_dir)
        return [*own.notes, *(own.check() if own.check else ())]
    root = Path(data_dir).expanduser()
    lines = []
    strange = [*_strange_folders(root), *loose_pictures(root)]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        lines.append(
            f"{root} holds pictures that nothing reads ({', '.join(strange[:3])}{more}); what is read: "
            f"{', '.join(f'{name}/' for name in _FOLDERS)}"
        )
    if (root / "val").is_dir() and not (root / "test").is_dir():
        lines.append(f"{root} has no test/: val/ is the test, and validation is held out of train/")
    for name in _FOLDERS:
        endings = other_files(root / name) if (root / name).is_dir() else {}
        if endings:
            lines.append(f"{root / name} holds {_endings(endings)}: no pictures that are read")
    return lines


def _strange_folders(root: Path) -> Iterator[str]:
    for name in class_folders(root):
        if name not in _FOLDERS and picture_files(root / name):
            yield f"{name}/"


def _endings(endings: Mapping[str, int]) -> str:
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in most[:3])
    count = sum(endings.values())
    return f"{count} other file{'s' if count > 1 else ''} ({listed}{', ...' if len(most) > 3 else ''})"


def _source_of(data: LabelledImages, *kinds: type) -> bool:
    images: object = data.images
    return isinstance(images, LazyImages) and isinstance(images.source, kinds)
