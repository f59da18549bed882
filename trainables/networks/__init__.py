"""Classifiers by name; every one takes images in [0, 1] and normalises them in its first layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from trainables.base.errors import InputError, unknown
from trainables.networks.body import Body, Classifier, Normalize
from trainables.networks.preact_resnet import PreActResNet18
from trainables.networks.small_cnn import SmallCNN
from trainables.networks.torchvision_nets import MobileNetV3, ResNet50
from trainables.networks.wide_resnet import WideResNet

__all__ = ["Body", "Classifier", "Normalize", "build"]


@dataclass(frozen=True)
class _Architecture:
    """How to make one, and the smallest and largest side in pixels that it suits."""

    make: Callable[[int, tuple[int, int, int], float], Body]
    smallest: int
    largest: int


_ARCHITECTURES: dict[str, _Architecture] = {
    "small_cnn": _Architecture(SmallCNN, 4, 64),
    "wrn_40_2": _Architecture(partial(WideResNet, depth=40, widen=2), 8, 128),
    "wrn_28_10": _Architecture(partial(WideResNet, depth=28, widen=10), 8, 128),
    "wrn_28_10_silu": _Architecture(partial(WideResNet, depth=28, widen=10, activation=nn.SiLU), 8, 128),
    "preact_resnet18": _Architecture(PreActResNet18, 8, 128),
    "resnet50": _Architecture(ResNet50, 32, 1024),
    "mobilenet_v3_small": _Architecture(MobileNetV3, 32, 1024),
    "mobilenet_v3_large": _Architecture(partial(MobileNetV3, large=True), 32, 1024),
}


def build(
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
) -> Classifier:
    """Return a freshly initialised classifier; the weights come from torch's global generator.

    Args:
        num_classes: at least 2.
        shape: (channels, height, width) of one image.
        mean, std: per channel, of images in [0, 1].
        dropout: share of dropped units where the architecture has dropout.

    Returns:
        A module from (n, c, h, w) in [0, 1] to (n, num_classes) logits, with `features`, `head`, and `body`
        for inputs that must not be normalised.

    Raises:
        InputError: an unknown name (the nearest is suggested), a shape that does not suit the architecture,
            or a mean or std of another number of channels.
    """
    if name not in _ARCHITECTURES:
        raise InputError(unknown("network", name, _ARCHITECTURES))
    architecture = _ARCHITECTURES[name]
    channels, height, width = shape
    smallest, largest = architecture.smallest, architecture.largest
    if min(height, width) < smallest or max(height, width) > largest:
        raise InputError(
            f"network {name} takes images of {smallest} to {largest} pixels a side, not {height} x {width}; "
            f"for 8 x 8 use small_cnn, for 32 x 32 wrn_40_2 or preact_resnet18"
        )
    if num_classes < 2 or channels < 1:
        raise InputError(
            f"network {name} needs 2 classes and 1 channel at least, not {num_classes}, {channels}"
        )
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"images have {channels} channels, but mean has {len(mean)} and std {len(std)}")
    return Classifier(Normalize(mean, std), architecture.make(num_classes, shape, dropout))
