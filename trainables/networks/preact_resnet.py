"""Pre-activation ResNet-18."""

from torch import Tensor, nn

from trainables.networks.body import Body, initialise
from trainables.networks.wide_resnet import WideBlock


class PreActResNet18(Body):
    """Four groups of two pre-activation blocks with 64, 128, 256 and 512 channels behind a 3x3 stem.

    Batch norm and ReLU end the last group, as in the paper; implementations without them have 1,024
    parameters fewer. There is no dropout: the option is accepted so that all architectures are built alike.

    Source:
        He et al. 2016, Identity Mappings in Deep Residual Networks. 11.17 M parameters for 10 classes.
    """

    layout = "preact"

    def __init__(self, num_classes: int, shape: tuple[int, int, int], dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)]
        width_in = 64
        for width, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            for stride in (first_stride, 1):
                layers.append(WideBlock(width_in, width, stride, 0.0, nn.ReLU))
                width_in = width
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(width_in), nn.ReLU())
        self.head = nn.Linear(width_in, num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 512)."""
        features: Tensor = self.layers(x)
        return features.mean(dim=(2, 3))
