"""Open a data set by name, and tell two of them apart by content."""

import hashlib
from collections.abc import Callable

import numpy as np

from trainables.data import catalog
from trainables.data.benchmark import Benchmark, LabelledImages
from trainables.data.digits import build as build_digits

#: {name: function of (name, data folder)}; one line per data set.
LOADERS: dict[str, Callable[[str, str], Benchmark]] = {
    "digits": lambda name, data_dir: build_digits(name),
    "digits-open": lambda name, data_dir: build_digits(name),
}


def load(name: str, data_dir: str = "") -> Benchmark:
    """Return a data set with all its splits, not sealed.

    Args:
        data_dir: folder that holds the files; built-in sets need none.

    Raises:
        InputError: an unknown name; the nearest known one is suggested.
        DataFileError: a file is missing or not in the documented format.
    """
    return LOADERS[catalog.get(name).name](name, data_dir)


def fingerprint_images(data: LabelledImages) -> str:
    """Return the SHA-256 over shape, dtype and bytes of images and labels."""
    digest = hashlib.sha256()
    for array in (data.images, data.labels):
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
