"""Wide residual networks (WRN) of pre-activation blocks."""

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.networks.body import Body, initialise

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class SameConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2 that pads an even side at its end alone, as TensorFlow and JAX do."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch norm and activation, with dropout between them.

    Where the width or the resolution changes, the shortcut is a 1x1 convolution of the activated input, else
    it is the input itself.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        dropout: float,
        activation: type[nn.Module],
        same: bool = False,
    ) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(width_in), activation())
        self.residual = nn.Sequential(
            SameConv2d(width_in, width, 3, stride, bias=False)
            if same and stride == 2
            else nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            activation(),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        changes = stride != 1 or width_in != width
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        total: Tensor = shortcut + self.residual(activated)
        return total


class WideResNet(Body):
    """A WRN of three groups, average-pooled over what is left of the image (8x8 of 32x32).

    Args:
        depth: 6 n + 4 for n blocks in each group.
        widen: the groups have 16, 32 and 64 times this many channels.
        activation: the non-linearity everywhere, "relu" or "silu".
        same: pad before a stride as DeepMind's code does (`SameConv2d`).

    Source:
        Zagoruyko & Komodakis 2016; SiLU as in Gowal et al. 2020. WRN-40-2 has 2.24 M and WRN-28-10 36.48 M
        parameters for 10 classes and colour images.
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, int, int],
        dropout: float = 0.0,
        *,
        depth: int,
        widen: int,
        activation: str = "relu",
        same: bool = False,
    ) -> None:
        super().__init__()
        self.layout = "deepmind" if same else "wide"
        if (depth - 4) % 6:
            raise ValueError(f"the depth of a wide ResNet is 6 n + 4, not {depth}")
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)]
        width_in = 16
        for width, first_stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            for block in range((depth - 4) // 6):
                stride = first_stride if block == 0 else 1
                layers.append(WideBlock(width_in, width, stride, dropout, act, same))
                width_in = width
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(width_in), act())
        self.head = nn.Linear(width_in, num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 64 * widen)."""
        features: Tensor = self.layers(x)
        return features.mean(dim=(2, 3))
