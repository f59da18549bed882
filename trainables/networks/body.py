"""Base classes of classifiers: `Body` (features and a linear head), `Normalize`, and `Classifier`, which joins them."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn


class Body(nn.Module):
    """A network on normalised inputs: features, then one linear layer.

    Attributes:
        head: the last linear layer, features to logits.
        bf16: in training mode, compute the features under autocast to bfloat16; the last layer keeps its dtype.
        compiled: in training mode, compute the features by torch.compile; what is evaluated, or differentiated
            twice, is never compiled.
        layout: of the weights in other programs' files, a name in `layouts.LAYOUTS`; "" where none is known.
    """

    head: nn.Linear
    bf16 = False
    compiled = False
    layout = ""

    def features(self, x: Tensor) -> Tensor:
        """Return (n, d) penultimate features of (n, c, h, w) normalised inputs."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor
        if not (self.training and (self.bf16 or self.compiled)):
            logits = self.head(self.features(x))
            return logits
        run = compiled_features() if self.compiled else _features
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            features = run(self, x)
        logits = self.head(features.to(self.head.weight.dtype))
        return logits


def _features(body: Body, x: Tensor) -> Tensor:
    return body.features(x)


@cache
def compiled_features() -> Callable[[Body, Tensor], Tensor]:
    """Return the compiled form of (body, inputs) -> features; networks of one structure share the code."""
    compiled: Callable[[Body, Tensor], Tensor] = torch.compile(_features, dynamic=False)
    return compiled


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel.

    The constants belong to the data set, not to the weights, so no state dict holds them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._given = tuple(mean), tuple(std)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(-1, 1, 1), persistent=False)

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return (c,) means and (c,) standard deviations on the CPU, also of a network on the meta device."""
        mean, std = (torch.tensor(values, device="cpu") for values in self._given)
        return mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


class Classifier(nn.Module):
    """A body behind its normalisation: images in [0, 1] in, logits out.

    `body(x)` alone skips the normalisation, which the `raw01` treatment of outliers needs.
    """

    def __init__(self, normalize: Normalize, body: Body) -> None:
        super().__init__()
        self.normalize = normalize
        self.body = body

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        return self.body.head

    def features(self, x: Tensor) -> Tensor:
        """Return (n, d) penultimate features of (n, c, h, w) images in [0, 1]."""
        return self.body.features(self.normalize(x))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.normalize(x))
        return logits


def initialise(network: nn.Module) -> None:
    """Draw convolutions from He's normal law (fan-out) and set biases of linear layers to 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
