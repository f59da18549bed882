"""Corruptions of 8x8 images at five severities: ten for tests, two hold-out ones for tuning. No torch.

The families follow Hendrycks & Dietterich 2019 (ImageNet-C); the strengths are our own, as theirs are made
for 224 pixels. Every function takes images (n, 1, 8, 8) in [0, 1], the strength and a random state, leaves
its input as it is and returns float32 in [0, 1] of the same shape. Arithmetic is in float64 and rounded
once at the end, so that a library's last bit does not show.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

Array = np.ndarray
# numpy freezes the streams of RandomState for ever (NEP 19); those of Generator may change between versions
Random = np.random.RandomState
Corruption = Callable[[Array, float, Random], Array]


def gaussian_noise(images: Array, strength: float, rng: Random) -> Array:
    """Add Gaussian noise of standard deviation `strength`."""
    return _finish(images + strength * rng.standard_normal(images.shape))


def shot_noise(images: Array, strength: float, rng: Random) -> Array:
    """Count photons: Poisson of `strength` times the image, divided by it; smaller is worse."""
    return _finish(rng.poisson(images.astype(np.float64) * strength) / strength)


def impulse_noise(images: Array, strength: float, rng: Random) -> Array:
    """Set a share `strength` of the pixels to 0 or 1, either with probability one half."""
    hit = rng.random_sample(images.shape) < strength
    salt = rng.random_sample(images.shape) < 0.5
    return _finish(np.where(hit, salt, images))


def speckle_noise(images: Array, strength: float, rng: Random) -> Array:
    """Multiply every pixel by 1 + noise of standard deviation `strength`: the background stays black."""
    return _finish(images + images * (strength * rng.standard_normal(images.shape)))


def gaussian_blur(images: Array, strength: float, rng: Random) -> Array:
    """Blur with a Gaussian of `strength` pixels, zeros outside."""
    blurred = ndimage.gaussian_filter(
        images.astype(np.float64), (0, 0, strength, strength), mode="constant", truncate=4.0
    )
    return _finish(blurred)


def contrast(images: Array, strength: float, rng: Random) -> Array:
    """Scale the distance from each image's mean by `strength`; smaller is worse."""
    images = images.astype(np.float64)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return _finish(mean + strength * (images - mean))


def brightness(images: Array, strength: float, rng: Random) -> Array:
    """Add `strength` to every pixel."""
    return _finish(images.astype(np.float64) + strength)


def pixelate(images: Array, strength: float, rng: Random) -> Array:
    """Average over `strength` x `strength` equal cells, then repeat each cell; smaller is worse."""
    cells = int(strength)
    side = images.shape[-1]
    edges = np.linspace(0, side, cells + 1)
    left, right = (
        np.maximum(edges[:-1, None], np.arange(side)),
        np.minimum(edges[1:, None], np.arange(side) + 1),
    )
    shrink = np.maximum(right - left, 0) * cells / side  # (cells, side), rows sum to 1
    nearest = ((np.arange(side) + 0.5) * cells / side).astype(int)
    small = np.einsum("ar,ncrs,bs->ncab", shrink, images.astype(np.float64), shrink)
    return _finish(small[:, :, nearest][:, :, :, nearest])


def shift(images: Array, strength: float, rng: Random) -> Array:
    """Move each image by `strength` pixels in its own random direction, bilinear, zeros outside."""
    angle = rng.uniform(0, 2 * np.pi, (len(images), 1, 1))
    return _warp(images, strength * np.sin(angle), strength * np.cos(angle))


def elastic(images: Array, strength: float, rng: Random) -> Array:
    """Displace pixels along a smooth random field of root mean square length `strength` pixels per image."""
    n, _, h, w = images.shape
    field = ndimage.gaussian_filter(rng.standard_normal((2, n, h, w)), (0, 0, 1.5, 1.5), mode="wrap")
    field = field / np.sqrt((field**2).sum(0).mean(axis=(1, 2))[:, None, None])
    return _warp(images, strength * field[0], strength * field[1])


def rotation(images: Array, strength: float, rng: Random) -> Array:
    """Turn each image about its centre by `strength` degrees, either way, bilinear, zeros outside."""
    n, _, h, w = images.shape
    angle = np.deg2rad(strength) * np.where(rng.random_sample(n) < 0.5, -1.0, 1.0)[:, None, None]
    rows, columns = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w)[None] - (w - 1) / 2
    cos, sin = np.cos(angle) - 1, np.sin(angle)
    return _warp(images, cos * rows + sin * columns, cos * columns - sin * rows)


#: {name: (function, the strengths of severities 1 to 5)}; the test corruptions.
CORRUPTIONS: Mapping[str, tuple[Corruption, tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "shot_noise": (shot_noise, (30.0, 12.0, 6.0, 3.0, 1.5)),
    "impulse_noise": (impulse_noise, (0.05, 0.1, 0.2, 0.3, 0.4)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "contrast": (contrast, (0.6, 0.45, 0.3, 0.2, 0.1)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (pixelate, (7, 6, 5, 4, 3)),
    "shift": (shift, (0.4, 0.8, 1.1, 1.4, 1.8)),
    "elastic": (elastic, (0.4, 0.8, 1.2, 1.6, 2.0)),
    "rotation": (rotation, (8.0, 16.0, 24.0, 32.0, 40.0)),
}

#: What tuning may look at: one noise that is not tested, and blur at widths that are not tested.
HOLD_OUT: Mapping[str, tuple[Corruption, tuple[float, ...]]] = {
    "speckle_noise": (speckle_noise, (0.2, 0.4, 0.6, 0.8, 1.0)),
    "gaussian_blur": (gaussian_blur, (0.5, 0.7, 0.9, 1.15, 1.5)),
}


def _finish(images: Array) -> Array:
    finished: Array = np.clip(images, 0.0, 1.0).astype(np.float32, order="C")
    return finished


def _warp(images: Array, rows: Array, columns: Array) -> Array:
    """Sample images (n, 1, h, w) at their pixels plus (rows, columns), each broadcast to (n, h, w)."""
    n, _, h, w = images.shape
    at = np.broadcast_arrays(
        np.arange(n)[:, None, None], np.arange(h)[None, :, None] + rows, np.arange(w)[None, None] + columns
    )
    # rounding first: cos(45 degrees) and the like differ in the last bit between maths libraries
    warped = ndimage.map_coordinates(
        images[:, 0].astype(np.float64), np.round(np.stack(at), 9), order=1, mode="constant", cval=0.0
    )
    return _finish(warped[:, None])
