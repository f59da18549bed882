"""Noise of an exact L2 length within the [0, 1] box, random noises, and which rows of a batch get which noise.

Everything here computes in at least float32, whatever autocast does around it; sums over pixels are in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.functional.losses import full_precision


def noise_length(shape: tuple[int, int, int], rms: float, l2: float = 0.0) -> float:
    """Return the L2 length of the noise on one image: `l2` where it is given, else rms * sqrt(c h w).

    Example:
        rms 0.3 on 1 x 8 x 8 is 2.4; rms 0.348 on 3 x 224 x 224 is 135.0.
    """
    return l2 if l2 > 0 else rms * math.sqrt(math.prod(shape))


def rescale(images: Tensor, noise: Tensor, l2: float | Tensor) -> Tensor:
    """Add noise, scaled for each image such that after clipping to [0, 1] the change has the length l2 exactly.

    With room s_i to the face that d_i points at, g(t) = sum_i min(t d_i^2, s_i^2) is the squared length at
    scale sqrt(t): concave, piecewise linear, with a kink at s_i^2 / d_i^2. The kinks are sorted, the segment
    with g(t) = l2^2 is found without a graph, and t = (l2^2 - sum of clipped s_i^2) / sum of free d_i^2 is
    then computed with one: gradients flow through the free coordinates and through the scale. Where even the
    full room is shorter than l2, every coordinate with noise goes to its face.

    Args:
        images: (n, c, h, w) in [0, 1]; read only, no gradient flows to them.
        noise: like images, any real; only its direction matters. A zero image of noise changes nothing.
        l2: length in units of [0, 1] pixels, at least 0; one number, or (n,).

    Returns:
        (n, c, h, w) in [0, 1]; float64 for float64 inputs, else float32.

    Source:
        Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions,
        which interpolates between sorted breakpoints. Sums in float64 and a division only by d_i^2 > 0
        replace the floor of 1e-20 there, which makes breakpoints of 1e20.

    Example:
        Pixels (0.9, 0.5), noise (1, 1), l2 0.5: the first one has a room of 0.1 and is clipped, the second
        moves by sqrt(0.25 - 0.01), which gives (1, 0.9899).
    """
    pixels = full_precision(images).detach().flatten(1)
    direction = full_precision(noise).flatten(1)
    # the result does not depend on the noise's scale, so that no gradient through the peak is missing
    peak = direction.detach().abs().amax(dim=1, keepdim=True)
    direction = direction / peak.clamp_min(torch.finfo(peak.dtype).tiny)
    if isinstance(l2, Tensor):
        target = l2.double().square().expand(len(pixels))
    else:  # filled on the device: a number copied there would wait for everything before it
        target = torch.full((len(pixels),), l2 * l2, dtype=torch.float64, device=pixels.device)
    face = (direction.detach() >= 0).to(pixels.dtype)
    ceiling = (face - pixels).square()
    clipped = _clipped(direction.detach().square(), ceiling, target)
    left = target - torch.where(clipped, ceiling, 0.0).sum(dim=1, dtype=torch.float64)
    free = torch.where(clipped, 0.0, direction.square()).sum(dim=1, dtype=torch.float64)
    # both branches of a where are differentiated: sqrt and the quotient must be finite also where unused
    moves = (left > 0) & (free > 0)
    square = torch.where(moves, left, 1.0) / torch.where(moves, free, 1.0)
    scale = torch.where(moves, square.sqrt(), 0.0).to(pixels.dtype)[:, None]
    moved = (pixels + scale * direction).clamp(0.0, 1.0)
    return torch.where(clipped, face, moved).view(images.shape)


@torch.no_grad()
def _clipped(slope: Tensor, ceiling: Tensor, target: Tensor) -> Tensor:
    """Return which coordinates of g(t) = sum min(t slope, ceiling) are at their ceiling where g reaches the target.

    Args:
        slope, ceiling: (n, pixels), at least 0; target: (n,).
    """
    kinks = torch.where(slope > 0, ceiling / slope, torch.inf)
    values, order = kinks.sort(dim=1)
    full = ceiling.gather(1, order).cumsum(dim=1, dtype=torch.float64)
    rest = slope.gather(1, order).flip(1).cumsum(dim=1, dtype=torch.float64).flip(1)
    rest = torch.cat([rest[:, 1:], torch.zeros_like(rest[:, :1])], dim=1)
    # g at each kink; at an infinite one it is inf or, times 0, NaN: both compare as not reached
    count = (full + values * rest <= target[:, None]).sum(dim=1, keepdim=True)
    last = values.gather(1, (count - 1).clamp_min(0))
    return (kinks <= last) & (count > 0)


def random_noise(
    images: Tensor,
    generator: torch.Generator,
    *,
    sigma: float | Tensor,
    multiply: bool = False,
    l2: float = 0.0,
) -> Tensor:
    """Add Gaussian noise and clip to [0, 1].

    Args:
        images: (n, c, h, w) in [0, 1]; left as they are.
        generator: on the images' device.
        sigma: standard deviation before clipping; one number, or (n,).
        multiply: speckle noise, x + sigma n x, instead of x + sigma n.
        l2: if above 0, sigma plays no part and the noise gets exactly this length, see `rescale`.

    Returns:
        (n, c, h, w) in [0, 1].
    """
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    if multiply:
        noise = noise * images
    if l2 > 0:
        return rescale(images, noise, l2)
    if isinstance(sigma, Tensor):
        sigma = sigma.to(images.dtype)[:, None, None, None]
    return (images + sigma * noise).clamp_(0.0, 1.0)


def draw_sigmas(sigmas: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return (count,) values drawn evenly, with replacement, from sigmas (k,); all on one device."""
    return sigmas[torch.randint(len(sigmas), (count,), generator=generator, device=sigmas.device)]


@dataclass(frozen=True)
class Composition:
    """How many images of a batch get what, in this order: current generator, each earlier one, nothing.

    Attributes:
        current: rows with noise of the current generator.
        history: rows for each of the earlier generators that are drawn.
        clean: rows that stay as they are.
    """

    current: int
    history: tuple[int, ...]
    clean: int

    @property
    def noisy(self) -> int:
        return self.current + sum(self.history)


def composition(count: int, p_clean: float, p_current: float, p_history: float) -> Composition:
    """Divide a batch: the clean share, the current generator's, and the rest in chunks for earlier generators.

    Shares are rounded to the nearest image, halves up. The last chunk may be smaller than the others.

    Args:
        count: images of the batch.
        p_clean, p_current: shares in [0, 1]; p_current gets at most what p_clean leaves.
        p_history: share per chunk; less than half an image counts as one.

    Returns:
        Parts that add up to count.

    Source:
        Rusak et al. 2020, whose code stops adding earlier generators when the noisy rows reach p_clean
        instead of 1 - p_clean: right only at one half.

    Example:
        70 images at (0.5, 0.3, 0.1): 21 current, 7 and 7 earlier, 35 clean; at (0.3, 0.3, 0.1): 21 current,
        four times 7 earlier, 21 clean.
    """
    clean = _round(p_clean * count)
    current = min(count - clean, _round(p_current * count))
    rest = count - clean - current
    chunk = max(1, _round(p_history * count))
    history = [chunk] * (rest // chunk) + ([rest % chunk] if rest % chunk else [])
    return Composition(current, tuple(history), clean)


def _round(value: float) -> int:
    return math.floor(value + 0.5 + 1e-9)  # 0.15 * 70 is 10.499999999999998 in floating point
