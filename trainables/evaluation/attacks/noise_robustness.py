"""Robustness to learned noise: the noise of a generator that is trained anew to fool the classifier."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.loading.device_loader import DeviceLoader, to_device, to_unit
from trainables.data.loading.stream_loader import StreamLoader, make_loader
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.image_batches import batch_size, image_blocks
from trainables.functional.attacks import attack_mode
from trainables.functional.noise import rescale
from trainables.networks.noise_generator import NoiseGenerator, train_generator

GROWTH = 1.8
COARSE_N = 11  # lengths of the coarse search: the largest one divided by 1.8^10 ... 1.8^0
BISECTIONS = 40

#: (lengths (n,)) -> which images are misclassified with noise of these lengths (n,)
Fooled = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class NoiseRobustness:
    """Results of a noise generator trained anew against a classifier.

    Attributes:
        median_l2: median over all images of the smallest length along the generator's noise that changes the
            class, in units of [0, 1] pixels; misclassified images count as 0, images that no length
            changes as infinite.
        accuracy: share of images that stay right with the generator's noise at `l2`, in [0, 1].
        l2: the length that the generator was trained at.
        shortest: (n,) the smallest lengths behind the median.
    """

    median_l2: float
    accuracy: float
    l2: float
    shortest: np.ndarray


def noise_robustness(
    network: nn.Module,
    train: LabelledImages,
    data: LabelledImages,
    l2: float,
    *,
    kind: str = "1x1",
    width: int = 20,
    iterations: int = 1000,
    lr: float = 5e-4,
    train_batch: int = 64,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> NoiseRobustness:
    """Train a new noise generator against a frozen classifier, then measure the classifier on its noise.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits; attacked and measured in eval mode, left as it was.
        train: what the generator is trained on.
        data: what is measured.
        l2: length of the noise in training and for the accuracy, in units of [0, 1] pixels, above 0.
        kind, width: of the generator, see `NoiseGenerator`.
        iterations, lr, train_batch: of its training with Adam.
        generator: weights, batches and noise; on the same device.

    Source:
        Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions:
        generator anew for 1001 steps, coarse search over powers of 1.8 up to 1.8^10, then 40 bisections.
        There the powers are lengths at 224 pixels, where 1.8^10 = 357 is about sqrt(c h w) = 388, the longest
        change there is; here they are fractions of that, so that any resolution gets the same grid.
    """
    noise_generator = NoiseGenerator(
        train.images.shape[1], l2, generator, kind=kind, width=width, device=device
    )
    batches = _endless(make_loader(train, train_batch, device, generator))
    train_generator(noise_generator, network, batches, iterations, lr, generator)
    return measure(network, noise_generator, data, generator, device)


def _endless(loader: DeviceLoader | StreamLoader) -> Iterator[tuple[Tensor, Tensor]]:
    return itertools.chain.from_iterable(itertools.repeat(loader))


@torch.no_grad()
def measure(
    network: nn.Module,
    noise_generator: NoiseGenerator,
    data: LabelledImages,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> NoiseRobustness:
    """Measure with a given noise generator: one noise per image, for the lengths and for the accuracy.

    Raises:
        ValueError: no images.
    """
    if not len(data):
        raise ValueError("noise robustness of no images; give at least one")
    labels, begin = to_device(data.labels, device), 0
    length = float(noise_generator.l2)
    shortest, right = [], []
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        for images in _batches(data.images, device):
            x, y = to_unit(images), labels[begin : begin + len(images)]
            begin += len(images)
            noise = noise_generator(noise_generator.seeds(x, generator))

            def fooled(lengths: Tensor, x: Tensor = x, y: Tensor = y, noise: Tensor = noise) -> Tensor:
                predicted: Tensor = network(rescale(x, noise, lengths)).argmax(1)
                return predicted != y

            right.append(~fooled(torch.full((len(x),), length, device=x.device)))
            wrong = network(x).argmax(1) != y
            smallest = shortest_lengths(fooled, len(x), x[0].numel() ** 0.5, x.device)
            shortest.append(torch.where(wrong, 0.0, smallest))
    lengths = torch.cat(shortest).cpu().numpy()
    accuracy = float(torch.cat(right).double().mean())
    return NoiseRobustness(_median(lengths), accuracy, length, lengths)


def _batches(images: Any, device: torch.device | str) -> Iterator[Tensor]:
    """Return images in batches on the device; files are decoded block by block."""
    for block in image_blocks(images, device):
        yield from torch.split(block, batch_size(device))


def shortest_lengths(fooled: Fooled, count: int, longest: float, device: torch.device | str) -> Tensor:
    """Return for each image the length at which it is first fooled: coarse search, then bisection.

    The coarse lengths are longest / 1.8^k for k = 10 ... 0; the first one that fools, and the one before it
    (0 for the first), are bisected 40 times. An image that is fooled, recovers and is fooled again between
    two coarse lengths may be given a later one of its changes.

    Returns:
        (count,) float32, infinite where none of the coarse lengths fools.

    Example:
        An image fooled from 0.7 on, longest 1.8: the coarse search ends at 1 after 1/1.8 = 0.56 did not fool,
        and the bisection between the two at 0.7.
    """
    low = torch.zeros(count, device=device)
    high = torch.full((count,), torch.inf, device=device)
    for k in range(COARSE_N - 1, -1, -1):
        length = torch.full((count,), longest / GROWTH**k, device=device)
        open_ = high.isinf()
        hit = fooled(length) & open_
        high = torch.where(hit, length, high)
        low = torch.where(open_ & ~hit, length, low)
    for _ in range(BISECTIONS):
        # an infinite upper end stays: there is nothing to bisect, and inf would reach the network
        middle = torch.where(high.isinf(), low, (low + high) / 2)
        hit = fooled(middle)
        high = torch.where(hit & ~high.isinf(), middle, high)
        low = torch.where(hit, low, middle)
    return high


def _median(lengths: np.ndarray) -> float:
    """Return the median, of an even number the lower middle value: a mean of two could be half infinite."""
    return float(np.sort(lengths)[(len(lengths) - 1) // 2])
