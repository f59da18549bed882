"""`SmallCNN`: three convolutions and one linear layer, for the built-in digits."""

from torch import Tensor, nn

from trainables.networks.body import Body


class SmallCNN(Body):
    """Convolutions 3x3 to 16, 32 (stride 2) and 64 channels, each with a ReLU, flattened; no batch norm.

    33,546 parameters for 8x8 grey images and 10 classes. Without batch norm a joint batch of inliers and
    outliers gives the same logits as two separate ones.
    """

    def __init__(self, num_classes: int, shape: tuple[int, int, int], dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(64 * ((height + 1) // 2) * ((width + 1) // 2), num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 64 * h/2 * w/2)."""
        features: Tensor = self.layers(x)
        return features
