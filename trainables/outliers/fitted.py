"""Outlier generators by name, fitted to the training images once and cached."""

import hashlib
import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainables.base.cache import locked
from trainables.base.storage import atomic_write
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.types.benchmark import LabelledImages
from trainables.outliers.generators import VAE, OutlierGenerator, PCAGaussian
from trainables.outliers.robgan_generator import RobGANOutliers

#: {name: how to make one}
GENERATORS: dict[str, Callable[[], OutlierGenerator]] = {
    "pca": PCAGaussian,
    "vae": VAE,
    "robgan": RobGANOutliers,
}


def fitted(kind: str, train: LabelledImages, cache_dir: Path) -> OutlierGenerator:
    """Return a generator of `GENERATORS`, from the cache or fitted now and put there.

    Cached as `<cache_dir>/generators/<hash>.npz`, the hash over kind, version and the training arrays.
    Processes that need the same one at the same time wait for the first. A file that cannot be read is
    fitted again.
    """
    generator = GENERATORS[kind]()
    key = hashlib.sha256(f"{kind} {generator.version} {fingerprint_images(train)}".encode()).hexdigest()
    path = cache_dir / "generators" / f"{key[:32]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        if not _restored(generator, path):
            generator.fit(train)
            with atomic_write(path) as file:
                np.savez(file, **generator.state())  # type: ignore[arg-type]
    return generator


def _restored(generator: OutlierGenerator, path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as saved:
            generator.load_state(dict(saved))
    except (OSError, EOFError, ValueError, KeyError, tokenize.TokenError, zipfile.BadZipFile):
        return False  # cut short by a full disk, or not ours: `fit` gives the same state again
    return True
