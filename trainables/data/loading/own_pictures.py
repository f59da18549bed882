"""Checks a user's own folders of pictures before anything starts: layout, numbers, copies, whole files. No torch."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from trainables.base.errors import DataFileError
from trainables.data.loading.duplicates import overlaps, sets_of
from trainables.data.loading.from_files import Parts, undecoded, validation_notes
from trainables.data.loading.leakage import leaks
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.lazy_images import DECODERS, FileSource, LazyImages

CHECK_S = 20.0  #: pictures are decoded for so long; a folder with more is checked by a sample
_BATCH = 8 * DECODERS


def check_own_pictures(
    dataset: str, data_dir: str, allow_duplicates: bool = False, clock: Callable[[], float] = time.monotonic
) -> list[str]:
    """Return what the user should know of the pictures, one line each; no lines for a data set that is not their own.

    Raises:
        DataFileError: class folders that differ, an OOD set where it is not read, no image for validation, copies of
            test files among those to train on, a file that is no whole picture.
    """
    if not DATASETS[dataset].users_own:
        return []
    parts = undecoded(dataset, data_dir)
    leaks(
        overlaps(sets_of(parts), alike=False), True, allow_duplicates
    )  # notes come when pixels are compared
    return [*validation_notes(dataset_info(dataset, data_dir), parts), *_check_whole(dataset, parts, clock)]


def _check_whole(dataset: str, parts: Parts, clock: Callable[[], float]) -> list[str]:
    """Decode the pictures of all sets in random order until all are read or the time is over."""
    files: list[tuple[FileSource, int]] = []
    for data in (data for sets in parts.values() for data in sets.values()):
        images: object = data.images
        if isinstance(images, LazyImages) and isinstance(images.source, FileSource):
            files += [(images.source, int(row)) for row in images.rows]
    order = iter(np.random.default_rng(0).permutation(len(files)).tolist())
    broken: list[str] = []
    done, end = 0, clock() + CHECK_S
    with ThreadPoolExecutor(DECODERS) as pool:
        while done < len(files) and clock() < end:
            batch = [files[place] for place in islice(order, _BATCH)]
            broken += filter(None, pool.map(lambda file: _problem(*file), batch))
            done += len(batch)
    if broken:
        more = f" (and {len(broken) - 1} more of {done} pictures cannot be used)" if len(broken) > 1 else ""
        raise DataFileError(f"{min(broken)}{more}")
    if done < len(files):
        return [
            f"{dataset}: {done} of {len(files)} pictures were looked into, a random sample; all of them are whole"
        ]
    return []


def _problem(source: FileSource, row: int) -> str:
    try:
        source.picture(row)
    except DataFileError as error:
        return str(error)
    return ""
