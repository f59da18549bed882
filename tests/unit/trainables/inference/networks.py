"""A trained-looking classifier with its validation images, for the tests of exports."""

import numpy as np
import torch

from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.splits import DatasetInfo
from trainables.networks import Classifier, build

INFO = DatasetInfo(
    "shapes", 4, (3, 16, 16), (0.5,) * 3, (0.2,) * 3, crop=0.875, classes=("disc", "ring", "square", "star")
)


def network(info: DatasetInfo = INFO) -> Classifier:
    """Return a small network with random weights and logits of several units."""
    torch.manual_seed(0)
    made = build("small_cnn", info.num_classes, info.shape, info.mean, info.std)
    with torch.no_grad():
        made.head.weight *= 20
    return made.eval()


def validation(info: DatasetInfo = INFO, count: int = 40) -> LabelledImages:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *info.shape), dtype=np.uint8)
    with torch.no_grad():
        predicted = network(info)(torch.from_numpy(images) / 255).argmax(1).numpy()
    wrong = rng.random(count) < 0.2
    return LabelledImages(images, np.where(wrong, rng.integers(0, info.num_classes, count), predicted))
