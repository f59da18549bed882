"""Quality and diversity of generated images as a classifier of this project scores them; tests for mode collapse.

None of the numbers is an Inception score or an Inception FID: they compare generators of one data set that
were judged by one classifier, and nothing else.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.functional.attacks import attack_mode
from trainables.options.robgan import GuardOptions

# -- measures ----------------------------------------------------------------------------------------------


def mean_pairwise_distance(images: Tensor) -> float:
    """Return the mean L2 distance between two different images of (n, ...), n >= 2.

    Example:
        Points 0, 3 and 6 on a line: (3 + 6 + 3) / 3 = 4.
    """
    return float(torch.pdist(images.flatten(1).float()).mean())


def diversity(fakes: Tensor, reals: Tensor) -> float:
    """Return the mean pairwise distance of fakes as a share of that of reals: 0 collapsed, 1 as varied."""
    return mean_pairwise_distance(fakes) / max(mean_pairwise_distance(reals), 1e-12)


def pixel_deviation(images: Tensor) -> float:
    """Return the standard deviation over the images, averaged over pixels, in the range [-1, 1].

    Args:
        images: (n, c, h, w) in [0, 1]; the map to [-1, 1] doubles the deviation.

    Example:
        One pixel that is 0 in half of the images and 1 in the others: deviation 1/2, so 1.
    """
    return 2 * float(images.std(dim=0, correction=0).mean())


def frechet_distance(left: Tensor, right: Tensor) -> float:
    """Return the squared Frechet distance between Gaussians fitted to two sets of features.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64; singular covariances are fine.

    Args:
        left: (n, d), right: (m, d); n, m >= 2.

    Returns:
        At least 0 (rounding below it is cut off). It shrinks with n and m: compare equal counts only.

    Source:
        Heusel et al. 2017, equation 6, here on the features of the project's own classifier.

    Example:
        One dimension, (0, 2) against (5, 9): means 1 and 7, variances 2 and 8 (unbiased), so
        36 + 2 + 8 - 2 * 4 = 38.
    """
    left, right = left.double(), right.double()
    a, b = left - left.mean(0), right - right.mean(0)
    a, b = a / (len(a) - 1) ** 0.5, b / (len(b) - 1) ** 0.5
    # tr (S1 S2)^(1/2) is the sum of the singular values of a b^T: eigenvalues of a^T a b^T b are their squares
    shared = torch.linalg.svdvals(a @ b.T).sum()
    distance = (
        (left.mean(0) - right.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * shared
    )
    return max(0.0, float(distance))


def density_coverage(reals: Tensor, fakes: Tensor, k: int = 5) -> tuple[float, float]:
    """Return (density, coverage) of fakes among reals in a feature space.

    Each real has a ball that reaches to its k-th nearest other real. Density is the mean number of balls
    that a fake lies in, divided by k: about 1 for fakes like reals, more if they crowd where reals are dense.
    Coverage is the share of balls with a fake in them: 1 - 2^-k is expected of a copy of the law.

    Args:
        reals: (n, d) with n > k, fakes: (m, d).

    Source:
        Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models, equations 3 and 5.

    Example:
        Reals 0, 1, 3 on a line and k = 1: radii 1, 1, 2. Fakes 0.5 and 10: 0.5 lies in two balls, 10 in
        none, so density 1 and coverage 2/3.
    """
    reals, fakes = reals.double(), fakes.double()
    between = torch.cdist(reals, reals, compute_mode="donot_use_mm_for_euclid_dist")
    radii = between.kthvalue(min(k, len(reals) - 1) + 1, dim=1).values  # the nearest one is the image itself
    inside = torch.cdist(reals, fakes, compute_mode="donot_use_mm_for_euclid_dist") <= radii[:, None]
    return float(inside.double().sum(0).mean() / k), float(inside.any(1).double().mean())


@torch.no_grad()
def judge(network: nn.Module, fakes: Tensor, labels: Tensor, reals: Tensor) -> dict[str, float]:
    """Score fakes by a classifier that had no part in training the generator.

    Args:
        network: images in [0, 1] -> logits, with `features`; left as it was.
        fakes: (n, c, h, w) in [0, 1], labels: (n,) the classes that were asked for.
        reals: (m, c, h, w) in [0, 1] that the generator was not trained on; m near n.

    Returns:
        judge_accuracy: share of fakes that the classifier gives the class asked for;
        judge_density, judge_coverage, judge_frechet: in its feature space; diversity: in pixels.
    """
    with attack_mode(network), torch.autocast(fakes.device.type, enabled=False):
        right = sum(
            int((network(x).argmax(1) == y).sum())
            for x, y in zip(torch.split(fakes, 256), torch.split(labels, 256), strict=True)
        )
        features_of: Any = network.features
        of_reals = torch.cat([features_of(x) for x in torch.split(reals, 256)])
        of_fakes = torch.cat([features_of(x) for x in torch.split(fakes, 256)])
    density, coverage = density_coverage(of_reals, of_fakes)
    return {
        "judge_accuracy": right / len(fakes),
        "judge_density": density,
        "judge_coverage": coverage,
        "judge_frechet": frechet_distance(of_reals, of_fakes),
        "diversity": diversity(fakes, reals),
    }


# -- collapse guards: each returns why it fired, or nothing ------------------------------------------------


def constant_pixels(deviation: float, least: float) -> str:
    """Fires on fakes that hardly differ in any pixel: grey, or one white spot."""
    return f"pixels of fakes deviate by {deviation:.3g} < {least:g}" if deviation < least else ""


def few_modes(share: float, least: float) -> str:
    """Fires on fakes that are near one another, as a share of the distance between reals."""
    return f"fakes lie {share:.3g} < {least:g} times as far apart as reals" if share < least else ""


def discriminator_won(steps: int, most: int) -> str:
    """Fires when the discriminator was nearly always right for more than `most` steps in a row."""
    return (
        f"the discriminator was right on reals and fakes for {steps} > {most} steps" if steps > most else ""
    )


def exploding_logits(size: float, most: float) -> str:
    """Fires on a mean |real/fake logit| that leaves a saturating loss no gradient."""
    return f"the real/fake logit has mean size {size:.3g} > {most:g}" if size > most else ""


def vanished_gradient(norm: float, least: float) -> str:
    """Fires when the generator gets no gradient."""
    return f"the generator's gradient has norm {norm:.3g} < {least:g}" if norm < least else ""


@dataclass(frozen=True)
class Signs:
    """What the guards look at after an epoch.

    Attributes:
        pixel_std: `pixel_deviation` of a batch of fakes.
        diversity: see `diversity`.
        won_steps: how many steps in a row, up to the last one, the discriminator was right on both halves.
        logit_size: mean |b| over the epoch.
        gradient_norm: mean over the epoch's generator steps.
    """

    pixel_std: float
    diversity: float
    won_steps: int
    logit_size: float
    gradient_norm: float


def collapse(signs: Signs, options: GuardOptions) -> str:
    """Return every guard that fired, joined by semicolons; empty if none."""
    reasons = (
        constant_pixels(signs.pixel_std, options.pixel_std),
        few_modes(signs.diversity, options.diversity),
        discriminator_won(signs.won_steps, options.accuracy_steps),
        exploding_logits(signs.logit_size, options.logit),
        vanished_gradient(signs.gradient_norm, options.gradient),
    )
    return "; ".join(reason for reason in reasons if reason)


# -- pictures ----------------------------------------------------------------------------------------------


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Lay images out in rows with a grey line of one pixel around each.

    Args:
        images: (n, c, h, w) in [0, 1], c 1 or 3; n a multiple of columns.

    Returns:
        (rows (h + 1) + 1, columns (w + 1) + 1) uint8 if c is 1, else with a last axis of 3.
    """
    n, c, h, w = images.shape
    rows = n // columns
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    canvas = np.full((rows * (h + 1) + 1, columns * (w + 1) + 1, c), 128, np.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (h + 1) + 1, index % columns * (w + 1) + 1
        canvas[top : top + h, left : left + w] = image.transpose(1, 2, 0)
    return canvas[:, :, 0] if c == 1 else canvas


def png_bytes(grid: np.ndarray, scale: int = 4) -> bytes:
    """Return a grid as a PNG file, each pixel drawn as a square of `scale` pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(buffer, "PNG")
    return buffer.getvalue()
