"""torchvision's ResNet-50 and MobileNetV3, without pretrained weights, for any number of channels."""

from typing import cast

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small, resnet50

from trainables.networks.body import Body


def with_channels(stem: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return the first convolution, or one like it for another number of input channels."""
    if stem.in_channels == channels:
        return stem
    fresh = nn.Conv2d(
        channels,
        stem.out_channels,
        cast(tuple[int, int], stem.kernel_size),
        cast(tuple[int, int], stem.stride),
        cast(tuple[int, int], stem.padding),
        bias=stem.bias is not None,
    )
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    return fresh


class ResNet50(Body):
    """torchvision's ResNet-50; it has no dropout, the option is accepted and ignored."""

    head_name = "fc"

    def __init__(self, num_classes: int, shape: tuple[int, int, int], dropout: float = 0.0) -> None:
        super().__init__()
        network = resnet50(weights=None, num_classes=num_classes)
        network.conv1 = with_channels(network.conv1, shape[0])
        self.head = network.fc
        network.fc = cast(nn.Linear, nn.Identity())
        self.layers = network

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 2048)."""
        features: Tensor = self.layers(x)
        return features


class MobileNetV3(Body):
    """torchvision's MobileNetV3, small or large; dropout acts before the last layer.

    Its running statistics take a tenth of each batch, as everywhere here. torchvision's hundredth suits 600 epochs of
    ImageNet: after 300 steps such a network is still at chance in evaluation mode.

    Args:
        large: the larger of the two.
    """

    head_name = "classifier.3"

    def __init__(
        self, num_classes: int, shape: tuple[int, int, int], dropout: float = 0.0, *, large: bool = False
    ) -> None:
        super().__init__()
        make = mobilenet_v3_large if large else mobilenet_v3_small
        network = make(weights=None, num_classes=num_classes, dropout=dropout)
        stem = cast(nn.Sequential, network.features[0])
        stem[0] = with_channels(cast(nn.Conv2d, stem[0]), shape[0])
        self.head = cast(nn.Linear, network.classifier[-1])
        network.classifier = network.classifier[:-1]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
        self.layers = network

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 1024) of the small or (n, 1280) of the large network."""
        features: Tensor = self.layers(x)
        return features
