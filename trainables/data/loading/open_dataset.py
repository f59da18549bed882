"""Load a data set by name; fingerprint its content."""

import hashlib

import numpy as np

from trainables.base.registry import resolve_reference
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.lazy_images import LazyImages


def load(name: str, data_dir: str = "", search_only: bool = False) -> Benchmark:
    """Return a data set with all its splits, not sealed.

    Args:
        data_dir: folder that holds the files, or receives them where the source allows a download; built-in
            sets need none (`glyphs` keeps its arrays there instead of in the user's cache folder).
        search_only: do not read the test splits at all, where that saves time; digits have them anyway.

    Raises:
        InputError: an unknown name; the nearest known one is suggested.
        DataFileError: a file is missing or not in the documented format.
    """
    benchmark: Benchmark = resolve_reference(DATASETS[name].loader)(name, data_dir, search_only)
    return benchmark


def fingerprint_images(data: LabelledImages) -> str:
    """Return the SHA-256 over shape, dtype and bytes of images and labels.

    Of lazy images it is over the names, sizes and order of the files: decoding them all takes hours.
    """
    digest = hashlib.sha256()
    images: object = data.images
    if isinstance(images, LazyImages):
        for piece in images.identity():
            digest.update(piece)
    arrays = (data.labels,) if isinstance(images, LazyImages) else (data.images, data.labels)
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def fingerprint(benchmark: Benchmark) -> str:
    """Return the SHA-256 over the name, every loaded split and every set of it, whatever their order.

    Sealed splits count too: what is compared is the data, and no image leaves this function.
    """
    digest = hashlib.sha256(benchmark.info.name.encode())
    for split in sorted(benchmark.parts, key=lambda s: s.value):
        for name, data in sorted(benchmark.parts[split].items()):
            digest.update(f"\n{split.value} {name} {fingerprint_images(data)}".encode())
    return digest.hexdigest()
