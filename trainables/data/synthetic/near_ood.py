"""OOD images that resemble the ID ones: two classes in one image, or an image bent out of shape. No torch.

A search that ranks its trials by far OOD data alone ranks by what every trial separates; see benchmarks/README.md. Each
function takes images (n, c, h, w) of any dtype, and, where it puts two together, the partners: as many images, each
of another class than its own.
"""

import numpy as np

Array = np.ndarray
Random = np.random.RandomState

CELLS = 8  #: of a patchwork, along each side
SMOOTHNESS = 1.5 / 8  #: standard deviation of the Gaussian that smooths a warp, as a share of the side
REACH = 3 / 8  #: the largest displacement of a warp along each axis, as a share of the side


def halves(images: Array, partners: Array) -> Array:
    """Put the right half of the partner beside the left half of each image."""
    right = np.arange(images.shape[-1]) >= images.shape[-1] // 2
    return np.where(right, partners, images)


def patchwork(images: Array, partners: Array, rng: Random) -> Array:
    """Take each of 8 x 8 cells from the image or from its partner, at random."""
    n, _, h, w = images.shape
    chosen = rng.random_sample((n, 1, CELLS, CELLS)) < 0.5
    rows, columns = (np.arange(side) * CELLS // side for side in (h, w))
    return np.where(chosen[:, :, rows][..., columns], partners, images)


def warped(images: Array, rng: Random) -> Array:
    """Bend each image by a smooth random displacement; what comes from outside repeats the edge.

    Args:
        images: float in [0, 1].

    Returns:
        float64 in [0, 1].
    """
    from scipy import ndimage

    h, w = images.shape[-2:]
    out = np.empty(images.shape)
    still = np.mgrid[:h, :w].astype(float)
    grid = np.empty_like(still)
    for place, image in zip(out, images, strict=True):
        for axis, side in enumerate((h, w)):
            noise = ndimage.gaussian_filter(rng.standard_normal((h, w)), (h * SMOOTHNESS, w * SMOOTHNESS))
            grid[axis] = still[axis] + REACH * side * noise / np.abs(noise).max()
        for channel, pixels in zip(place, image, strict=True):
            ndimage.map_coordinates(pixels, grid, channel, order=1, mode="nearest")
    return np.clip(out, 0, 1)
