"""OOD images that are computed: transformed validation images, and noise. No torch.

Everything is uint8 (n, c, h, w), made at the task's own size: noise that is shrunk later is flat grey. Each
function takes its random state, so that a set depends on the data set's name and its own name alone.

Source:
    Hendrycks et al. 2019 (outlier exposure) for the validation transforms. Ours differ in that the jigsaw
    draws a new order for each image, every channel is inverted, and pairs are of different classes.
"""

from collections.abc import Callable, Mapping

import numpy as np

from trainables.base.seeds import derive_seed
from trainables.data.synthetic import near_ood
from trainables.data.types.benchmark import LabelledImages

Array = np.ndarray
# numpy freezes the streams of RandomState for ever (NEP 19); those of Generator may change between versions
Random = np.random.RandomState


def random_of(*keys: str | int) -> Random:
    """Return the random state of a made set."""
    return Random(derive_seed(0, "made", *keys) % 2**32)


def arithmetic_mean(data: LabelledImages, rng: Random) -> Array:
    """Average each image with one of another class."""
    return to_bytes((unit_of(data.images) + unit_of(data.images[_partners(data, rng)])) / 2)


def geometric_mean(data: LabelledImages, rng: Random) -> Array:
    """Multiply each image with one of another class, and take the root."""
    return to_bytes(np.sqrt(unit_of(data.images) * unit_of(data.images[_partners(data, rng)])))


def jigsaw(data: LabelledImages, rng: Random) -> Array:
    """Cut each image into 4 x 4 tiles (2 x 2 where the side is no multiple of 4) and shuffle them."""
    n, c, h, w = data.images.shape
    g = 4 if h % 4 == w % 4 == 0 else 2
    side, across = h // g, w // g
    shuffled = np.array(data.images)
    tiles = shuffled[:, :, : g * side, : g * across].reshape(n, c, g, side, g, across)
    tiles = tiles.transpose(0, 2, 4, 1, 3, 5).reshape(n, g * g, c, side, across)
    orders = np.argsort(rng.random_sample((n, g * g)), axis=1, kind="stable")
    still = (orders == np.arange(g * g)).all(1)
    orders[still] = np.roll(orders[still], 1, axis=1)  # no image keeps its order
    tiles = tiles[np.arange(n)[:, None], orders].reshape(n, g, g, c, side, across)
    shuffled[:, :, : g * side, : g * across] = tiles.transpose(0, 3, 1, 4, 2, 5).reshape(
        n, c, g * side, g * across
    )
    return shuffled


def speckled(data: LabelledImages, rng: Random) -> Array:
    """Multiply every pixel by 1 + standard Gaussian noise."""
    unit = unit_of(data.images)
    return to_bytes(unit + unit * rng.standard_normal(unit.shape).astype(np.float32))


def pixelated(data: LabelledImages, rng: Random) -> Array:
    """Average over cells of a fifth of the side's pixels across (6 x 6 cells at 32), and repeat them."""
    from PIL import Image

    n, c, h, w = data.images.shape
    small = (max(1, int(w * 0.2)), max(1, int(h * 0.2)))
    out = np.empty((n, c, h, w), np.uint8)
    for place, image in zip(out.reshape(-1, h, w), np.asarray(data.images).reshape(-1, h, w), strict=True):
        shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
        place[:] = np.asarray(shrunk.resize((w, h), Image.Resampling.NEAREST))
    return out


def rgb_shifted(data: LabelledImages, rng: Random) -> Array:
    """Give red the mirrored green, green the blue, and blue the red."""
    images = np.asarray(data.images)
    return np.stack([images[:, 1, :, ::-1], images[:, 2], images[:, 0]], axis=1)


def inverted(data: LabelledImages, rng: Random) -> Array:
    return 255 - np.asarray(data.images)


def rademacher(data: LabelledImages, rng: Random) -> Array:
    """Make every value 0 or 255."""
    return (rng.randint(0, 2, data.images.shape) * 255).astype(np.uint8)


def halves(data: LabelledImages, rng: Random) -> Array:
    """Put the right half of an image of another class beside the left half of each."""
    images = np.asarray(data.images)
    return near_ood.halves(images, images[_partners(data, rng)])


def patchwork(data: LabelledImages, rng: Random) -> Array:
    """Take each of 8 x 8 cells from the image or from one of another class, at random."""
    images = np.asarray(data.images)
    return near_ood.patchwork(images, images[_partners(data, rng)], rng)


def warped(data: LabelledImages, rng: Random) -> Array:
    """Bend each image by a smooth random displacement."""
    return to_bytes(near_ood.warped(unit_of(data.images), rng))


def uniform(shape: tuple[int, ...], rng: Random) -> Array:
    return rng.randint(0, 256, shape).astype(np.uint8)


def gaussian(shape: tuple[int, ...], rng: Random) -> Array:
    """Return N(0.5, 0.5), clipped to [0, 1]."""
    return to_bytes(0.5 + 0.5 * rng.standard_normal(shape).astype(np.float32))


TRANSFORMS: Mapping[str, Callable[[LabelledImages, Random], Array]] = {
    "rademacher": rademacher,
    "uniform": lambda data, rng: uniform(data.images.shape, rng),
    "arithmetic_mean": arithmetic_mean,
    "geometric_mean": geometric_mean,
    "jigsaw": jigsaw,
    "speckled": speckled,
    "pixelated": pixelated,
    "rgb_shifted": rgb_shifted,
    "inverted": inverted,
    "halves": halves,
    "patchwork": patchwork,
    "warped": warped,
}


def validation_sets(dataset: str, names: tuple[str, ...], base: LabelledImages) -> dict[str, LabelledImages]:
    """Return the named validation OOD sets, each as large as `base`.

    Args:
        dataset: its name decides the random numbers.
        base: validation images, uint8, of two classes at least.
    """
    return {name: unlabelled(TRANSFORMS[name](base, random_of(dataset, name))) for name in names}


def noise_set(dataset: str, name: str, count: int, shape: tuple[int, int, int]) -> LabelledImages:
    """Return the test set `uniform` or `gaussian` of a data set."""
    make = {"uniform": uniform, "gaussian": gaussian}[name]
    return unlabelled(make((count, *shape), random_of(dataset, "test", name)))


def unlabelled(images: Array) -> LabelledImages:
    return LabelledImages(np.ascontiguousarray(images), np.full(len(images), -1, np.int64))


def _partners(data: LabelledImages, rng: Random) -> Array:
    """Return for each image the row of one of another class.

    With the rows sorted by class in a circle, the one that lies as far on as the largest class is long is of
    another class, if no class has more than half of the images; a random start shuffles within that.
    """
    n = len(data)
    order = np.lexsort((rng.random_sample(n), data.labels))
    step = int(np.bincount(data.labels - data.labels.min()).max())
    partners = np.empty(n, np.int64)
    partners[order] = np.roll(order, -step)
    return partners


def unit_of(images: Array) -> Array:
    """Return uint8 images as float32 in [0, 1]."""
    return np.asarray(images).astype(np.float32) / 255


def to_bytes(unit: Array) -> Array:
    """Return images in [0, 1] (clipped) as uint8, rounded."""
    return np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)
