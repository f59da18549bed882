"""The auxiliary outliers of one trial: from a fitted generator, from noise or from files."""

from pathlib import Path

import numpy as np

from trainables.base.errors import InputError
from trainables.base.seeds import derive_seed
from trainables.data.readers.npz_arrays import rows_of
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.outlier_files import check_npy, check_npz, find_npy, find_npz
from trainables.options.common import OutlierOptions
from trainables.outliers.fitted import GENERATORS, fitted
from trainables.outliers.generators import OutlierGenerator

__all__ = ["GENERATORS", "OutlierGenerator", "sample_outliers"]


def sample_outliers(options: OutlierOptions, train: LabelledImages, seed: int, cache_dir: Path) -> np.ndarray:
    """Return `options.count` outliers that depend on the options, the training images and the seed alone.

    Trials that differ in sigma only get the same latents, scaled: their comparison is paired. Files that hold
    fewer images than asked for give all of them, in random order.

    Args:
        train: generators are fitted on it, and files must have its image shape.
        seed: of the trial; the random stream is derived from it.
        cache_dir: fitted generators are kept below it.

    Returns:
        (n, c, h, w): float32 in [0, 1], or uint8 as stored in files.

    Raises:
        InputError: a generator that is not there.
        DataFileError: a file that is missing, broken or does not fit; see `check_outlier_files`.
    """
    kind, count = options.generator, options.count
    channels, height, width = (int(s) for s in train.images.shape[1:])
    shape = (channels, height, width)
    rng = np.random.default_rng(derive_seed(seed, "outliers", kind))
    if kind == "uniform":
        return rng.random((count, *shape), dtype=np.float32)
    if kind == "npz":
        path = find_npz(options.path, options.sigma)
        rows = _rows(check_npz(path, shape), count, rng)
        return rows_of(path, "x", rows)
    if kind == "images300k":
        path = find_npy(options.path)
        rows = np.sort(_rows(check_npy(path, shape), count, rng))  # in file order: a disk reads ahead
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.ascontiguousarray(mapped[rows].transpose(0, 3, 1, 2))
    if kind not in GENERATORS:
        known = ", ".join([*GENERATORS, "uniform", "npz", "images300k"])
        raise InputError(
            f"outliers.generator={kind} needs a module that adds it to GENERATORS; here are: {known}"
        )
    return fitted(kind, train, Path(cache_dir)).sample(count, options.sigma, rng)


def _rows(available: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(available)[:count]
