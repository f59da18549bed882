"""Cache of the outlier generators: each is fitted once to a training set and kept as an npz file."""

import hashlib
from pathlib import Path

import numpy as np

from trainables.base.cache import locked
from trainables.base.storage import atomic_write, read_npz
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.types.benchmark import LabelledImages
from trainables.options.outliers import OUTLIER_SOURCES, OutlierSourceSpec
from trainables.outliers.generators import OutlierGenerator


def fitted_generator(spec: OutlierSourceSpec, train: LabelledImages, cache_dir: Path) -> OutlierGenerator:
    """Return the generator of a spec, read from the cache or fitted now and put there.

    Cached as `<cache_dir>/generators/<hash>.npz`, the hash over name, version, the training arrays and the
    user's own code.
    Processes that need the same one at the same time wait for the first. A file that cannot be read is
    replaced: the generator is fitted again.
    """
    generator: OutlierGenerator = spec.load_generator()
    code = sorted(OUTLIER_SOURCES.digests(spec.name).values())
    facts = [spec.name, getattr(generator, "version", 1), fingerprint_images(train), *code]
    key = hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()
    path = cache_dir / "generators" / f"{key[:32]}.npz"
    with locked(path.with_suffix(".lock")):
        if not _load_cached(generator, path):
            generator.fit(train)
            with atomic_write(path) as file:
                np.savez(file, **generator.state())  # type: ignore[arg-type]
    return generator


def _load_cached(generator: OutlierGenerator, path: Path) -> bool:
    """Load the state of a cache file; return False if there is none that can be read."""
    if not path.is_file():
        return False
    try:
        generator.load_state(read_npz(path.read_bytes(), str(path)))
    except (OSError, ValueError, KeyError):
        return False  # damaged or foreign: `fit` gives the same state again
    return True
