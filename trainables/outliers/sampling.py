"""Sample the auxiliary outliers of one trial from a fitted generator, from noise or from files."""

from pathlib import Path

import numpy as np

from trainables.base.errors import InputError
from trainables.base.own_specs import short_name
from trainables.base.seeds import derive_seed
from trainables.data.readers.outlier_files import checked_file
from trainables.data.types.benchmark import LabelledImages
from trainables.options.common import OutlierOptions
from trainables.outliers.generator_cache import fitted_generator

Array = np.ndarray


def sample_outliers(options: OutlierOptions, train: LabelledImages, seed: int, cache_dir: Path) -> Array:
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
        InputError: an unknown source, or a source of files without `outliers.path`.
        DataFileError: a file that is missing, broken or does not fit; see `check_outlier_files`.
    """
    spec, count = options.source, options.count
    channels, height, width = (int(s) for s in train.images.shape[1:])
    shape = (channels, height, width)
    rng = np.random.default_rng(derive_seed(seed, "outliers", short_name(spec.name)))
    images: Array
    if spec.noise:
        images = np.asarray(spec.load_noise()(count, shape, rng))
        if images.shape != (count, *shape) or images.dtype != np.float32:
            raise InputError(
                f"outlier source {spec.name} returned {images.dtype} {images.shape}; it must return float32 "
                f"{(count, *shape)}"
            )
    elif spec.file:
        path, available = checked_file(options, shape)
        images = spec.load_file().read(path, rng.permutation(available)[:count])
    else:
        images = fitted_generator(spec, train, Path(cache_dir)).sample(count, options.sigma, rng)
    return images


def uniform_noise(count: int, shape: tuple[int, int, int], rng: np.random.Generator) -> Array:
    """Return images (count, c, h, w) float32 whose pixels are independent and uniform in [0, 1]."""
    return rng.random((count, *shape), dtype=np.float32)
