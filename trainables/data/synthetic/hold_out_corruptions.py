"""The four hold-out corruptions for validation: speckle noise, Gaussian blur, spatter, saturate. No torch.

Search may look at these and at no other corruption: no test set has them. They are made here, of validation images,
and need no extra library, so that a search reads the same images on every machine.

Source:
    Hendrycks & Dietterich 2019; the strengths are CIFAR-10-C's up to 32 pixels and ImageNet-C's above 64; in between
    saturate and spatter are CIFAR-10-C's, and blur and speckle ours. Spatter differs: the drops of its three weaker
    severities are flat, without the relief that the original draws with an edge detector.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from trainables.data.synthetic.made_ood import Random, random_of, to_bytes, unit_of
from trainables.data.types.benchmark import LabelledImages

Array = np.ndarray

SEVERITIES = 5
_SPECKLE = ((0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.25, 0.3, 0.35), (0.15, 0.2, 0.35, 0.45, 0.6))
_BLUR = ((0.4, 0.6, 0.7, 0.8, 1.0), (0.5, 0.75, 1.0, 1.25, 1.5), (1.0, 2.0, 3.0, 4.0, 6.0))

# (factor, offset) of the saturation
_CIFAR_SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))
_SATURATE = (_CIFAR_SATURATE, _CIFAR_SATURATE, ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)))

# (mean and deviation of the noise, its blur, the threshold above which it is liquid, blur of the liquid)
_CIFAR_SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1.0, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)
_SPATTER = (
    _CIFAR_SPATTER,
    _CIFAR_SPATTER,
    (
        (0.65, 0.3, 4.0, 0.69, 0.6),
        (0.65, 0.3, 3.0, 0.68, 0.6),
        (0.65, 0.3, 2.0, 0.68, 0.5),
        (0.65, 0.3, 1.0, 0.65, 1.5),
        (0.67, 0.4, 1.0, 0.65, 1.5),
    ),
)
_WATER = np.array([175, 238, 238]) / 255  # pale turquoise
_MUD = np.array([63, 42, 20]) / 255
_MUDDY = 3  #: severities above it are mud, the others water
_OPACITY = 0.6  #: of water, where it covers a pixel wholly


def hold_out_corruptions(dataset: str, base: LabelledImages) -> dict[str, LabelledImages]:
    """Return {"<corruption>/<severity>": the images, corrupted}; grey images have no saturation to change.

    The severities of speckle noise share one draw, so that they differ in strength alone.

    Args:
        dataset: its name decides the random numbers.
        base: validation images, uint8 (n, c, h, w).
    """
    makers = _makers(dataset, unit_of(base.images))
    return {
        f"{name}/{level + 1}": LabelledImages(to_bytes(make(level)), base.labels)
        for name, make in makers.items()
        for level in range(SEVERITIES)
    }


def hold_out_blocks(dataset: str, validation: LabelledImages, size: int) -> dict[str, LabelledImages]:
    """Return the sets of `hold_out_corruptions`, each of other images: the first `size`, the next, and so on.

    The mean over all sets then rests on up to 20 times as many images, in the same memory. Where there are too few
    images, it begins again with the first.

    Args:
        validation: uint8, an array or lazy, in no order of classes.
        size: images of a set.
    """
    sets: dict[str, LabelledImages] = {}
    names = tuple(_makers(dataset, np.zeros((0, *validation.images.shape[1:]), np.float32)))
    for place, (name, level) in enumerate((name, level) for name in names for level in range(SEVERITIES)):
        rows = (place * size + np.arange(min(size, len(validation)))) % len(validation)
        make = _makers(dataset, unit_of(np.asarray(validation.images[rows])))[name]
        sets[f"{name}/{level + 1}"] = LabelledImages(to_bytes(make(level)), validation.labels[rows])
    return sets


def _makers(dataset: str, unit: Array) -> dict[str, Callable[[int], Array]]:
    """Return {corruption: function of its level, from 0} of images (n, c, h, w) in [0, 1]."""
    side = unit.shape[-1]
    size = 0 if side <= 32 else 1 if side <= 64 else 2

    @cache
    def noise() -> Array:
        drawn: Array = random_of(dataset, "speckle_noise").standard_normal(unit.shape).astype(np.float32)
        return unit * drawn

    makers: dict[str, Callable[[int], Array]] = {
        "speckle_noise": lambda level: unit + noise() * np.float32(_SPECKLE[size][level]),
        "gaussian_blur": lambda level: _blurred(unit, _BLUR[size][level]),
        "spatter": lambda level: spatter(unit, level, size, random_of(dataset, "spatter", level + 1)),
    }
    if unit.shape[1] == 3:
        makers["saturate"] = lambda level: saturate(unit, *_SATURATE[size][level])
    return makers


def saturate(unit: Array, factor: float, offset: float) -> Array:
    """Change the saturation of RGB images (n, 3, h, w) in [0, 1] to clip(factor * it + offset, 0, 1).

    In HSV a channel is value * (1 - saturation * k), where k depends on the hue alone: so its distance from the value
    scales with the saturation. A grey pixel has the hue of red.

    Example:
        (1, 0.5, 0.5), saturation 0.5: factor 0.3 makes that 0.15 and the pixel (1, 0.85, 0.85).
    """
    value = unit.max(1, keepdims=True)
    span = value - unit.min(1, keepdims=True)
    saturation = span / np.where(value == 0, 1, value)
    wanted = np.clip(saturation * factor + offset, 0, 1)
    red = np.array([0, 1, 1], unit.dtype)[:, None, None]
    k = np.where(span == 0, red, (value - unit) / np.where(span == 0, 1, span))
    changed: Array = value * (1 - wanted * k)
    return changed


def spatter(unit: Array, level: int, size: int, rng: Random) -> Array:
    """Cover spots of images (n, c, h, w) in [0, 1] with water (levels 0 to 2) or mud (3 and 4)."""
    from scipy import ndimage

    mean, deviation, blur, threshold, soft = _SPATTER[size][level]
    n, channels, height, width = unit.shape
    noise = mean + deviation * rng.standard_normal((n, height, width)).astype(np.float32)
    liquid = ndimage.gaussian_filter(noise, (0, blur, blur), mode="nearest") > threshold
    cover = ndimage.gaussian_filter(liquid.astype(np.float32), (0, soft, soft), mode="nearest")
    if level < _MUDDY:
        cover, colour = _OPACITY * cover, _WATER
    else:
        cover, colour = np.where(cover < 0.8, 0, cover), _MUD
    paint = colour.astype(np.float32) if channels == 3 else colour.mean(keepdims=True).astype(np.float32)
    covered: Array = unit + cover[:, None] * (paint[:, None, None] - unit)
    return covered


def _blurred(unit: Array, width: float) -> Array:
    from scipy import ndimage

    blurred: Array = ndimage.gaussian_filter(unit, (0, 0, width, width), mode="nearest", truncate=4.0)
    return blurred
