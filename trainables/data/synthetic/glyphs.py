"""Built-in data set `glyphs`: ten letters drawn on textures, 60,000 images of 3 x 32 x 32. No download, no torch.

ID are ten capital letters; near OOD are letters and numerals that no training image shows, drawn in the same
way; far OOD are the textures without a letter, and noise. The first 1024 training images are validation. The
arrays are drawn once, kept below the cache folder and mapped from there.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.base.cache import default_cache_dir, locked, make_cache_folder
from trainables.base.storage import atomic_write
from trainables.data.synthetic.glyph_images import FONTS, SIDE, draw, font_file
from trainables.data.synthetic.hold_out_corruptions import hold_out_corruptions
from trainables.data.synthetic.made_ood import noise_set, validation_sets
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.made_sets import NOISE_N, NOISES
from trainables.data.types.splits import Split

Array = np.ndarray

#: The classes; look-alikes under a turn or a shear (I, L, J; M, W; C, G; O, Q) are in neither list twice.
LETTERS = "".join(DATASETS["glyphs"].classes)
UNSEEN = {"letters": "CDGLMNPQUVWYZ", "numerals": "234679", "textures": ""}
#: Part of the cache's key: raise it when the drawing changes.
VERSION = 1


@dataclass(frozen=True)
class Sizes:
    """How many images of each part."""

    train: int = 50_000
    test: int = 10_000
    ood: int = 2_000


def load(name: str, data_dir: str = "", search_only: bool = False) -> Benchmark:
    """Return `glyphs` at full size; its arrays are kept in the data folder, or in the user's cache folder."""
    return build(data_dir, search_only=search_only)


def build(
    cache_dir: str = "", sizes: Sizes = Sizes(), seed: int = 0, search_only: bool = False
) -> Benchmark:  # Sizes is frozen
    """Return the benchmark, uint8 images (n, 3, 32, 32); drawn at the first call, half a minute on one core.

    Args:
        cache_dir: arrays are kept in `<cache_dir>/glyphs/`; default: the user's cache folder.
        sizes: a smaller set is the beginning of a larger one.
        seed: of the drawing.
        search_only: leave the test splits out.
    """
    spec = DATASETS["glyphs"]
    root = (Path(cache_dir).expanduser() if cache_dir else default_cache_dir()) / "glyphs"
    train = _part(root, "train", LETTERS, sizes.train, seed)
    held = min(spec.hold_out.count, sizes.train // 10)
    validation = LabelledImages(train.images[:held], train.labels[:held])
    roles = spec.roles
    assert roles is not None
    parts = {
        Split.TRAIN: {"id": LabelledImages(train.images[held:], train.labels[held:])},
        Split.VAL_ID: {"id": validation},
        Split.VAL_OOD_NEAR: validation_sets("glyphs", roles.validation_near, validation),
        Split.VAL_OOD_FAR: validation_sets("glyphs", roles.validation_far, validation),
        Split.VAL_CORRUPTED: hold_out_corruptions("glyphs", validation),
    }
    if search_only:
        return Benchmark(spec.info, parts)

    def ood(name: str) -> LabelledImages:
        if name in NOISES:
            return noise_set("glyphs", name, NOISE_N, spec.shape)
        drawn = _part(root, name, UNSEEN[name], sizes.ood, seed)
        return LabelledImages(drawn.images, np.full(len(drawn), -1, np.int64))

    parts[Split.TEST_ID] = {"id": _part(root, "test", LETTERS, sizes.test, seed)}
    parts[Split.TEST_OOD_NEAR] = {name: ood(name) for name in roles.near}
    parts[Split.TEST_OOD_FAR] = {name: ood(name) for name in roles.far}
    return Benchmark(spec.info, parts)


def _part(root: Path, part: str, characters: str, count: int, seed: int) -> LabelledImages:
    """Return a part from the cache, or draw it and put it there; a file that cannot be read is drawn again."""
    folder = root / _key(characters, count, seed, part)
    data = _restored(folder, count)
    if data is None:
        with locked(root / f"{folder.name}.lock"):
            data = _restored(folder, count)  # another process may have drawn it meanwhile
            if data is None:
                shutil.rmtree(folder, ignore_errors=True)
                make_cache_folder(folder)
                images, labels = draw(characters, count, seed, part)
                for name, array in (("images", images), ("labels", labels)):
                    with atomic_write(folder / f"{name}.npy") as file:
                        np.save(file, array)
                data = LabelledImages(images, labels)
    return data


def _restored(folder: Path, count: int) -> LabelledImages | None:
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except Exception:  # not there, or damaged: numpy's parser of headers raises many kinds of error
        return None
    complete = (
        images.shape == (count, 3, SIDE, SIDE)
        and images.dtype == np.uint8
        and labels.shape == (count,)
        and labels.dtype == np.int64
    )
    return LabelledImages(images, labels) if complete else None


def _key(characters: str, count: int, seed: int, part: str) -> str:
    """Return the folder's name: the part and a hash of all that decides its pixels, fonts and Pillow included."""
    import PIL

    fonts = [hashlib.sha256(font_file(name).read_bytes()).hexdigest()[:8] for name in FONTS]
    recipe = f"{VERSION} {characters} {count} {seed} {part} {PIL.__version__} {fonts}"
    return f"{part}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
