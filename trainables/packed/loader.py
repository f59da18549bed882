"""Training batches of K replicas: each has its own order and augmentation, drawn from its own random stream."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainables.data.loading.device_loader import DeviceLoader, augment, to_unit


class StackedLoader:
    """Iterates over K loaders of one data set side by side, drawing from their generators as they would alone.

    Iterating gives one epoch of ((K, n, c, h, w) images in [0, 1], (K, n) labels).
    """

    def __init__(self, loaders: Sequence[DeviceLoader]) -> None:
        self.loaders = tuple(loaders)

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = self.loaders[0]
        size = first.batch_size
        orders = torch.stack([loader.order() for loader in self.loaders])
        for step in range(len(self)):
            rows = orders[:, step * size : (step + 1) * size]
            images = first.images[rows]
            if first.augmentation != "none":
                pairs = zip(images, self.loaders, strict=True)
                images = torch.stack([augment(x, own.augmentation, own.generator) for x, own in pairs])
            yield to_unit(images), first.labels[rows]
