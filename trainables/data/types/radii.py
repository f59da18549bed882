"""The Linf radii that a classifier of a data set is judged by: those of its spec, else by the size of its images.

No torch.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from trainables.data.types.dataset_spec import Epsilons
from trainables.data.types.datasets import DATASETS

#: (largest shorter side in pixels, radius in [0, 1] pixel units). 8/255 is that of CIFAR, SVHN, STL-10 and
#: Tiny-ImageNet, 4/255 that of ImageNet; smaller images have fewer pixels to change and take more.
BY_SIDE = ((16, 16 / 255), (96, 8 / 255), (math.inf, 4 / 255))


@dataclass(frozen=True)
class Radii:
    """Linf radii in [0, 1] pixel units; the first of each is the one that a search looks at.

    Attributes:
        accuracy: of attacks on the accuracy.
        score: of attacks on the outlier score.
    """

    accuracy: Epsilons
    score: Epsilons


def radius_by_side(height: int, width: int) -> float:
    """Return the radius that suits images of this size.

    Example:
        8 x 8: 16/255; 32 x 32 to 96 x 96: 8/255; 224 x 224: 4/255; 64 x 200: 8/255
    """
    return next(radius for side, radius in BY_SIDE if min(height, width) <= side)


def radii_of(dataset: str, shape: tuple[int, int, int] | None = None) -> Radii:
    """Return the radii of a data set.

    Args:
        shape: (channels, height, width) of its images, where the user's folder decides; None takes the spec's.

    Raises:
        InputError: an unknown data set; the nearest is suggested.
    """
    spec = DATASETS[dataset]
    _, height, width = shape or spec.shape
    by_size = (radius_by_side(height, width),)
    return Radii(spec.robust_epsilons or by_size, spec.ood_epsilons or by_size)


def radius_text(radius: float) -> str:
    """Return a radius as a fraction of 255 where it is one: 8/255, 0.15, 0.1."""
    fraction = Fraction(radius).limit_denominator(255)
    exact = float(fraction) == radius and 255 % fraction.denominator == 0
    return f"{fraction * 255}/255" if exact and fraction.denominator > 10 else f"{radius:g}"
