"""The 15 corruptions at the strengths of CIFAR-10-C, for images of up to 32 pixels a side. No torch.

Frost pictures, plasma, zoom, disk, motion and the shuffling of pixels are the library's (`imagecorruptions`), whose own
strengths are ImageNet's and far too strong for images of this size.

Source:
    Hendrycks & Dietterich 2019, their table for CIFAR-10-C. What differs: motion is blurred by the library and not by
    ImageMagick, images are warped by scipy and not by OpenCV.
"""

import io
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from trainables.data.types.availability import CIFAR_LARGEST

Array = np.ndarray
Random = np.random.RandomState

#: {corruption: its parameters at severities 1 to 5}
STRENGTHS: dict[str, tuple[Any, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
    "shot_noise": (500, 250, 100, 75, 50),  # photons of white
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of the values
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),  # radius, its soft rim
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),  # blur, distance, rounds
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),  # radius, deviation
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),  # zoomed by hundredths to below this
    # mean and deviation of the flakes, their zoom and threshold, radius and deviation of the fall, share of the image
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # shares of image and frost
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),  # amount, decay
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value of HSV
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # factor around the mean of each channel
    # height and width of the displacements, largest move of the corners, as shares of the side
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # share of the side
    "jpeg_compression": (80, 65, 58, 50, 40),  # quality
}  # fmt: skip
FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
FROST_SCALE = 0.2


def corrupt_small(pixels: Array, corruption: str, severity: int, seed: int, library: ModuleType) -> Array:
    """Return an image, uint8 (h, w, 3), corrupted.

    Args:
        corruption: a name of `STRENGTHS`.
        severity: 1 to 5.
        seed: of its random numbers, below 2**32; numpy's global stream, which the library draws from, must be seeded
            by the caller.
        library: `imagecorruptions.corruptions`.
    """
    rng = Random(seed)
    strength = STRENGTHS[corruption][severity - 1]
    if corruption in ("pixelate", "jpeg_compression"):
        picture = _PICTURES[corruption](Image.fromarray(pixels), strength)
        return np.asarray(picture)
    if corruption == "glass_blur":
        return _bytes(_glass(pixels, strength, seed, library))
    unit = pixels / 255
    if corruption in _PLAIN:
        return _bytes(_PLAIN[corruption](unit, strength, rng))
    return _bytes(_BY_LIBRARY[corruption](unit, strength, rng, library))


def _bytes(unit: Array) -> Array:
    return np.uint8(np.clip(unit, 0, 1) * 255)  # type: ignore[return-value]


# -- pictures -----------------------------------------------------------------------------------------------


def _pixelated(picture: Image.Image, share: float) -> Image.Image:
    width, height = picture.size
    small = picture.resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return small.resize((width, height), Image.Resampling.BOX)


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


_PICTURES: dict[str, Callable[[Image.Image, Any], Image.Image]] = {
    "pixelate": _pixelated,
    "jpeg_compression": _jpeg,
}

# -- of values in [0, 1] ------------------------------------------------------------------------------------


def _gaussian(unit: Array, deviation: float, rng: Random) -> Array:
    return unit + rng.normal(0, deviation, unit.shape)


def _shot(unit: Array, photons: float, rng: Random) -> Array:
    counted: Array = rng.poisson(unit * photons) / photons
    return counted


def _impulse(unit: Array, share: float, rng: Random) -> Array:
    hit, white = rng.random_sample((2, *unit.shape)) < np.reshape((share, 0.5), (2, *[1] * unit.ndim))
    return np.where(hit, white, unit)


def _contrast(unit: Array, factor: float, rng: Random) -> Array:
    means = unit.mean((0, 1), keepdims=True)
    changed: Array = (unit - means) * factor + means
    return changed


def _brightness(unit: Array, added: float, rng: Random) -> Array:
    """Add to HSV's value: hue and saturation stay where every channel is scaled alike; black becomes grey."""
    value = unit.max(2, keepdims=True)
    brighter = np.clip(value + added, 0, 1)
    changed: Array = np.where(value > 0, unit * brighter / np.where(value > 0, value, 1), brighter)
    return changed


def _elastic(unit: Array, strength: tuple[float, float, float], rng: Random) -> Array:
    """Move three corners of a square in the middle, then every pixel by a smooth random field."""
    from scipy import ndimage

    height, width, _ = unit.shape
    size = min(height, width)
    push, smooth, corner = (size * part for part in strength)
    middle, third = np.array([height // 2, width // 2], float), size // 3
    before = np.array([middle + third, middle + np.array([third, -third]), middle - third])
    after = before + rng.uniform(-corner, corner, before.shape)
    # the affine map from where a pixel ends to where it comes from, both as (x, y)
    back = np.linalg.solve(np.c_[after, np.ones(3)], before)
    rows, columns = np.mgrid[:height, :width].astype(float)
    source = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ back
    warped = _sampled(unit, source[..., 1], source[..., 0], "mirror")
    across, down = (
        push
        * ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), smooth, mode="reflect", truncate=3)
        for _ in range(2)
    )
    return _sampled(warped, rows + down, columns + across, "reflect")


def _sampled(unit: Array, rows: Array, columns: Array, mode: str) -> Array:
    from scipy import ndimage

    channels = [
        ndimage.map_coordinates(unit[..., k], [rows, columns], order=1, mode=mode)
        for k in range(unit.shape[2])
    ]
    return np.stack(channels, axis=-1)


_PLAIN: dict[str, Callable[[Array, Any, Random], Array]] = {
    "gaussian_noise": _gaussian,
    "shot_noise": _shot,
    "impulse_noise": _impulse,
    "contrast": _contrast,
    "brightness": _brightness,
    "elastic_transform": _elastic,
}

# -- with pieces of the library -----------------------------------------------------------------------------


def _glass(pixels: Array, strength: tuple[float, int, int], seed: int, library: Any) -> Array:
    """Shuffle neighbouring pixels between two blurs."""
    blurred = _bytes(_blurred(pixels / 255, strength[0]))
    height, width, _ = pixels.shape
    return _blurred(
        library._shuffle_pixels_njit_glass_blur(height, width, blurred, strength, seed) / 255, strength[0]
    )


def _blurred(unit: Array, width: float) -> Array:
    from scipy import ndimage

    blurred: Array = ndimage.gaussian_filter(unit, (width, width, 0), mode="nearest", truncate=4.0)
    return blurred


def _defocused(unit: Array, strength: tuple[float, float], rng: Random, library: Any) -> Array:
    from scipy import ndimage

    kernel = library.disk(radius=strength[0], alias_blur=strength[1])
    blurred: Array = ndimage.correlate(unit, kernel[..., None], mode="mirror")
    return blurred


def _moved(unit: Array, strength: tuple[int, float], rng: Random, library: Any) -> Array:
    moved: Array = library._motion_blur(unit, *strength, angle=rng.uniform(-45, 45))
    return moved


def _zoom_blurred(unit: Array, most: float, rng: Random, library: Any) -> Array:
    factors = np.arange(1, most, 0.01)
    blurred: Array = (unit + sum(_zoomed(unit, factor, library) for factor in factors)) / (len(factors) + 1)
    return blurred


def _zoomed(unit: Array, factor: float, library: Any) -> Array:
    """Return the middle of an image (h, w, c), scaled up to its size."""
    height, width = unit.shape[:2]
    large: Array = library.clipped_zoom(unit, factor)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return large[top : top + height, left : left + width]


def _snowed(unit: Array, strength: tuple[float, ...], rng: Random, library: Any) -> Array:
    mean, deviation, zoom, threshold, radius, fall, share = strength
    flakes = _zoomed(rng.normal(mean, deviation, unit.shape[:2])[..., None], zoom, library)[..., 0]
    flakes = np.where(flakes < threshold, 0, flakes)
    layer = np.uint8(np.clip(flakes, 0, 1) * 255) / 255
    layer = library._motion_blur(layer, radius, fall, angle=rng.uniform(-135, -45))[..., None]
    grey = (unit @ [0.299, 0.587, 0.114])[..., None]
    pale = share * unit + (1 - share) * np.maximum(unit, 1.5 * grey + 0.5)
    snowed: Array = pale + layer + np.rot90(layer, 2)
    return snowed


def _frosted(unit: Array, strength: tuple[float, float], rng: Random, library: Any) -> Array:
    height, width, _ = unit.shape
    frost = _frost(FROSTS[rng.randint(len(FROSTS))], library)
    top, left = rng.randint(0, frost.shape[0] - height), rng.randint(0, frost.shape[1] - width)
    frosted: Array = strength[0] * unit + strength[1] * frost[top : top + height, left : left + width]
    return frosted


@cache
def _frost(name: str, library: Any) -> Array:
    """Return a picture of frost, scaled, (h, w, 3) in [0, 1]."""
    from importlib.resources import files

    with (files("imagecorruptions") / "frost" / name).open("rb") as file:
        picture = np.asarray(Image.open(file).convert("RGB"))
    scaled: Array = library.cv2.resize(picture, (0, 0), fx=FROST_SCALE, fy=FROST_SCALE) / 255
    return scaled


def _fogged(unit: Array, strength: tuple[float, float], rng: Random, library: Any) -> Array:
    amount, decay = strength
    height, width, _ = unit.shape
    plasma = library.plasma_fractal(mapsize=CIFAR_LARGEST, wibbledecay=decay)[:height, :width, None]
    brightest = unit.max()
    fogged: Array = (unit + amount * plasma) * brightest / (brightest + amount)
    return fogged


_BY_LIBRARY: dict[str, Callable[[Array, Any, Random, Any], Array]] = {
    "defocus_blur": _defocused,
    "motion_blur": _moved,
    "zoom_blur": _zoom_blurred,
    "snow": _snowed,
    "frost": _frosted,
    "fog": _fogged,
}
