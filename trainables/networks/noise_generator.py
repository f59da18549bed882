"""`NoiseGenerator` of adversarial noise training (ANT), and its training against a classifier."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.functional.attacks import attack_mode
from trainables.functional.losses import full_precision
from trainables.functional.noise import rescale

INITIAL_STD = 0.01


class NoiseGenerator(nn.Module):
    """Four convolutions and a skip that turn Gaussian noise into noise; it never sees an image.

    "1x1" maps every pixel's noise alone, so that its noise is uncorrelated in space. "3x3" has one 3x3
    convolution (the second, without padding, on noise of two more rows and columns) and makes locally
    correlated noise; its skip takes the centre. Weights start near 0, so the first noise is Gaussian.

    Attributes:
        l2: the length to which its noise is scaled; part of the state dict.

    Source:
        Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions.
    """

    l2: Tensor

    def __init__(
        self,
        channels: int,
        l2: float,
        generator: torch.Generator,
        *,
        kind: str = "1x1",
        width: int = 20,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the weights from a generator on the same device; the global one is left alone.

        Args:
            channels: of the images.
            l2: length of the noise on one image, in units of [0, 1] pixels.
            kind: "1x1" or "3x3".
            width: hidden channels.

        Raises:
            ValueError: an unknown kind.
        """
        super().__init__()
        if kind not in ("1x1", "3x3"):
            raise ValueError(f"unknown noise generator {kind!r}; known: 1x1, 3x3")
        self.channels = channels
        self.border = 1 if kind == "3x3" else 0
        sizes = [
            (channels, width, 1),
            (width, width, 1 + 2 * self.border),
            (width, width, 1),
            (width, channels, 1),
        ]
        # without a draw from the global generator, which a plain constructor makes
        layers = [
            nn.utils.skip_init(nn.Conv2d, inside, outside, side, device=device)
            for inside, outside, side in sizes
        ]
        for layer in layers:
            nn.init.normal_(layer.weight, 0.0, INITIAL_STD, generator=generator)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)
        self.register_buffer("l2", torch.tensor(float(l2), device=device))

    def seeds(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return Gaussian noise (n, c, h + 2 border, w + 2 border) for a batch of images."""
        n, c, h, w = images.shape
        size = (n, c, h + 2 * self.border, w + 2 * self.border)
        dtype = next(self.parameters()).dtype
        return torch.randn(size, generator=generator, device=images.device, dtype=dtype)

    def forward(self, seeds: Tensor) -> Tensor:
        """Return noise (n, c, h, w), of any length; `rescale` gives it the right one."""
        # a 1x1 convolution is a matrix product over the channels; with so few, conv2d takes 8 times as long on a CPU
        hidden = seeds.permute(0, 2, 3, 1)
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            if layer.kernel_size == (1, 1):
                hidden = F.linear(hidden, layer.weight.flatten(1), layer.bias)
            else:
                hidden = layer(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            if depth < len(self.layers) - 1:
                hidden = torch.relu(hidden)
        b = self.border
        skip = seeds[:, :, b:-b, b:-b] if b else seeds
        noise = hidden.permute(0, 3, 1, 2) + skip
        return noise


def noise_loss(
    noise_generator: NoiseGenerator,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean cross-entropy on images with fresh noise, differentiable in the noise generator.

    Call it within `attack_mode(network)`, so that no gradients of the classifier's weights are computed.
    """
    noise = noise_generator(noise_generator.seeds(images, generator))
    return F.cross_entropy(full_precision(network(rescale(images, noise, noise_generator.l2))), labels)


def generator_step(
    noise_generator: NoiseGenerator,
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Take one step that raises the classifier's cross-entropy; return it from before the step, detached."""
    loss = noise_loss(noise_generator, network, images, labels, generator)
    optimizer.zero_grad(set_to_none=True)
    (-loss).backward()
    optimizer.step()
    return loss.detach()


def train_generator(
    noise_generator: NoiseGenerator,
    network: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    iterations: int,
    lr: float,
    generator: torch.Generator,
) -> None:
    """Train a noise generator with Adam against a frozen classifier in eval mode, whose own mode is restored."""
    optimizer = make_adam(noise_generator, lr)
    with attack_mode(network):
        for images, labels in islice(batches, iterations):
            generator_step(noise_generator, optimizer, network, images, labels, generator)


def make_adam(noise_generator: NoiseGenerator, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(noise_generator.parameters(), lr=lr, foreach=True)
