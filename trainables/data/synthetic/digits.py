"""Built-in data sets `digits` and `digits-open`: 1,797 real 8x8 handwritten digits. No download.

`digits` has ten classes. `digits-open` has the classes 0-5; 6-9 are in no training or validation image and
make up the near OOD set `unknown`. Validation OOD is made of validation images, procedures and photographs
that no test set uses; test OOD of test images. Everything comes from fixed seeds, and a test holds the
checksum of every set.
"""

from collections.abc import Mapping

import numpy as np

from trainables.base.seeds import derive_seed
from trainables.data.synthetic import near_ood
from trainables.data.synthetic.corruptions8 import CORRUPTIONS, HOLD_OUT, Corruption, Random
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import Origin, Split

Array = np.ndarray

VALIDATION_N = 250  #: images of each validation OOD set that is made from nothing
TEST_N = 300  #: the same for test sets
SIDE = 8


def load(name: str, data_dir: str = "", search_only: bool = False) -> Benchmark:
    """Return `digits` or `digits-open`, float32 images (n, 1, 8, 8) in [0, 1].

    Args:
        data_dir: not used.
        search_only: not used: the test splits are made within a second.
    """
    info = DATASETS[name].info
    splits = split_digits()
    train, validation, test = (_known(part, info.num_classes) for part in splits)
    near = near_sets(test)
    if info.num_classes < 10:
        near["unknown"] = _ood(_of(splits[2], tuple(range(info.num_classes, 10))))
    parts = {
        Split.TRAIN: {"id": train},
        Split.VAL_ID: {"id": validation},
        Split.VAL_OOD_NEAR: near_validation_sets(validation),
        Split.VAL_OOD_FAR: far_validation_sets(validation),
        Split.VAL_CORRUPTED: corrupt(validation, HOLD_OUT, "validation"),
        Split.TEST_ID: {"id": test},
        Split.TEST_OOD_NEAR: near,
        Split.TEST_OOD_FAR: far_sets(),
        Split.TEST_OOD_OTHER: {"rotated90": _ood(np.rot90(_of(test, (2, 3, 4, 5, 7)), axes=(2, 3)))},
        Split.CORRUPTED: corrupt(test, CORRUPTIONS, "test"),
    }
    return Benchmark(info, parts, corrupted=Origin.OWN)


def split_digits() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """Return train (1000), validation (297) and test (500) images of all ten classes, stratified."""
    from sklearn.datasets import load_digits  # half a second to import
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)[:, None]  # k/16 is exact
    labels = data.target.astype(np.int64)
    rest, test, rest_y, test_y = train_test_split(
        images, labels, test_size=500, stratify=labels, random_state=0
    )
    train, val, train_y, val_y = train_test_split(
        rest, rest_y, test_size=297, stratify=rest_y, random_state=0
    )
    return LabelledImages(train, train_y), LabelledImages(val, val_y), LabelledImages(test, test_y)


def near_validation_sets(validation: LabelledImages) -> dict[str, LabelledImages]:
    """Return the near OOD sets that search may read, made from the validation images.

    Two digits in one image are cut together; those of the test set `mixture` are averaged.
    """
    pairs = _pairs(validation, VALIDATION_N, _random("pairs"))
    first, second = (validation.images[rows] for rows in pairs.T)
    return {
        "halves": _ood(near_ood.halves(first, second)),
        "patchwork": _ood(near_ood.patchwork(first, second, _random("patchwork"))),
        "warped": _ood(near_ood.warped(validation.images, _random("warped"))),
    }


def far_validation_sets(validation: LabelledImages) -> dict[str, LabelledImages]:
    """Return the far OOD sets that search may read, made from the validation images and `flower.jpg`."""
    rademacher = _random("rademacher").randint(0, 2, (VALIDATION_N, 1, SIDE, SIDE))
    return {
        "rademacher": _ood(rademacher),
        "flower": _ood(crops("flower.jpg", VALIDATION_N, _random("flower"))),
        "jigsaw": _ood(jigsaw(validation.images, _random("jigsaw"))),
        "inverted": _ood(1.0 - validation.images),
    }


def far_sets() -> dict[str, LabelledImages]:
    """Return the sealed far OOD sets: noise and photographs."""
    shape = (TEST_N, 1, SIDE, SIDE)
    china = crops("china.jpg", TEST_N, _random("china"))
    return {
        "uniform": _ood(_random("uniform").random_sample(shape)),
        "gaussian": _ood(np.clip(0.5 + 0.5 * _random("gaussian").standard_normal(shape), 0, 1)),
        "blobs": _ood(blobs(TEST_N, _random("blobs"))),
        "china": _ood(china),
        "china_stretched": _ood(stretch(china)),
    }


def near_sets(test: LabelledImages) -> dict[str, LabelledImages]:
    """Return the sealed near OOD sets that are made of test images."""
    n = len(test)
    order = _random("permuted").permutation(SIDE * SIDE)
    permuted = test.images.reshape(n, -1)[:, order].reshape(test.images.shape)
    return {
        "permuted": _ood(permuted),
        "hflip": _ood(_of(test, (2, 3, 4, 5, 6, 7, 9))[..., ::-1]),
        "mixture": _ood(mixture(test, TEST_N, _random("mixture"))),
    }


def jigsaw(images: Array, rng: Random) -> Array:
    """Shuffle the four quadrants of each image (n, 1, 8, 8); no image keeps its order."""
    h = SIDE // 2
    tiles = images.reshape(-1, 2, h, 2, h).transpose(0, 1, 3, 2, 4).reshape(-1, 4, h, h)
    orders = np.array([np.unravel_index(i, (4, 4, 4, 4)) for i in range(256)])
    orders = orders[[len(set(o)) == 4 for o in orders.tolist()]][1:]  # 23: the first one is the identity
    chosen = orders[rng.randint(len(orders), size=len(images))]
    tiles = tiles[np.arange(len(images))[:, None], chosen].reshape(-1, 2, 2, h, h)
    shuffled: Array = tiles.transpose(0, 1, 3, 2, 4).reshape(images.shape)
    return shuffled


def mixture(data: LabelledImages, count: int, rng: Random) -> Array:
    """Average pairs of images of different classes, half and half; `count` distinct draws."""
    pairs = _pairs(data, count, rng)
    mixed: Array = (data.images[pairs[:, 0]] + data.images[pairs[:, 1]]) / 2
    return mixed


def _pairs(data: LabelledImages, count: int, rng: Random) -> Array:
    """Return the rows (count, 2) of pairs of different classes."""
    pairs = rng.randint(len(data), size=(4 * count, 2))
    pairs = pairs[data.labels[pairs[:, 0]] != data.labels[pairs[:, 1]]][:count]
    return pairs


def blobs(count: int, rng: Random) -> Array:
    """Return smoothed Gaussian noise, each image stretched to [0, 1]."""
    from scipy import ndimage

    noise = rng.standard_normal((count, 1, SIDE, SIDE))
    return stretch(ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5), mode="reflect"))


def stretch(images: Array) -> Array:
    """Map each image linearly to [0, 1]; a constant image becomes 0."""
    low = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    stretched: Array = (images - low) / np.where(span == 0, 1, span)
    return stretched


def crops(photograph: str, count: int, rng: Random) -> Array:
    """Cut squares of 8 to 64 pixels out of one of scikit-learn's photographs, in grey, averaged to 8x8.

    Pillow does both steps in integers, so that the result is the same on every machine.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_image

    grey = Image.fromarray(load_sample_image(photograph)).convert("L")
    images = np.empty((count, 1, SIDE, SIDE))
    for crop in images:
        size = rng.randint(SIDE, 65)
        left, top = rng.randint(grey.width - size + 1), rng.randint(grey.height - size + 1)
        box = (left, top, left + size, top + size)
        crop[0] = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)) / 255.0
    return images


def corrupt(
    data: LabelledImages, corruptions: Mapping[str, tuple[Corruption, tuple[float, ...]]], of: str
) -> dict[str, LabelledImages]:
    """Return {"<corruption>/<severity 1-5>": the images so corrupted}, labels kept."""
    return {
        f"{name}/{level}": LabelledImages(
            function(data.images, strength, _random(of, name, level)), data.labels
        )
        for name, (function, strengths) in corruptions.items()
        for level, strength in enumerate(strengths, start=1)
    }


def _known(data: LabelledImages, classes: int) -> LabelledImages:
    keep = data.labels < classes
    return LabelledImages(data.images[keep], data.labels[keep])


def _of(data: LabelledImages, classes: tuple[int, ...]) -> Array:
    return data.images[np.isin(data.labels, classes)]


def _ood(images: Array) -> LabelledImages:
    return LabelledImages(np.ascontiguousarray(images, dtype=np.float32), np.full(len(images), -1, np.int64))


def _random(*keys: str | int) -> Random:
    return Random(derive_seed(0, "digits", *keys) % 2**32)
