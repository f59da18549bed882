"""Loaders of images that fit onto the device: no worker processes, no Python code per image."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.loading.class_balance import epoch_order
from trainables.data.types.benchmark import LabelledImages


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Copy an array (also a read-only or memory-mapped one) to the device in its own dtype."""
    return torch.tensor(np.ascontiguousarray(array), device=device)


def resident(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Return an array as a tensor that lives as long as its loader; nothing may write into it.

    On a GPU it is a copy. On the CPU it is the array itself where it can be: what Ray's object store holds once per
    node is then shared by all trials there, and is read-only memory, so that a write would end the process.
    """
    if (
        torch.device(device).type != "cpu"
        or not isinstance(array, np.ndarray)
        or not array.flags.c_contiguous
    ):
        return to_device(array, device)
    if array.dtype.byteorder not in "=|" or not array.size:
        return to_device(array, device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def to_unit(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1]; uint8 is divided by 255, float passes through."""
    return images.float().div(255) if images.dtype == torch.uint8 else images.float()


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Flip and crop a batch on its device, each image with its own draw.

    Args:
        images: (n, c, h, w).
        kind: "none", "flip", "crop" or "crop_flip"; a crop pads by an eighth of the side (4 of 32) with zeros.

    Returns:
        A tensor of the same shape.
    """
    n, channels, h, w = images.shape
    flips = None
    if "flip" in kind:
        flips = torch.rand(n, generator=generator, device=images.device) < 0.5
    if "crop" not in kind:
        return images if flips is None else torch.where(flips[:, None, None, None], images.flip(3), images)
    pad = max(1, h // 8)
    width = w + 2 * pad
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator, device=images.device)
    rows = top + torch.arange(h, device=images.device)  # (n, h)
    columns = left + torch.arange(w, device=images.device)
    if flips is not None:  # the crop of a flipped image is read backwards from the image as it is
        columns = torch.where(flips[:, None], width - 1 - columns, columns)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, h * w)
    padded = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    return padded.gather(2, pixels.expand(n, channels, h * w)).view(n, channels, h, w)


class DeviceLoader:
    """One split on the device, shuffled anew every epoch by a given generator.

    Iterating gives one epoch of (images in [0, 1], labels); a last short batch is dropped when training, so
    that batch statistics and step counts are equal in every epoch. A split smaller than one batch is one batch. With
    `balanced`, images are drawn so that each class is seen equally often.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int,
        device: torch.device | str,
        generator: torch.Generator,
        augmentation: str = "none",
        balanced: bool = False,
    ) -> None:
        self.images = resident(data.images, device)
        self.labels = to_device(data.labels, device)
        self.batch_size = min(batch_size, len(data))
        self.generator = generator
        self.augmentation = augmentation
        self.balanced = balanced

    def __len__(self) -> int:
        """Return the steps of one epoch."""
        return len(self.images) // self.batch_size

    def order(self) -> Tensor:
        """Draw the rows of one epoch."""
        return epoch_order(self.labels, self.balanced, self.generator)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order()
        for step in range(len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            images = to_unit(augment(self.images[rows], self.augmentation, self.generator))
            yield images, self.labels[rows]


class OutlierLoader:
    """An endless stream of outliers, reshuffled after each pass over all of them.

    Any number can be asked for, also more than there are. Passes do not end with epochs, so that outliers meet other
    inliers in every epoch.
    """

    def __init__(
        self,
        images: np.ndarray,
        device: torch.device | str,
        generator: torch.Generator,
        augmentation: str = "none",
    ) -> None:
        self.images = resident(images, device)
        self.generator = generator
        self.augmentation = augmentation
        self._order = torch.empty(0, dtype=torch.int64, device=self.images.device)

    def next(self, count: int) -> Tensor:
        """Return (count, c, h, w) in [0, 1]."""
        if len(self._order) < count:
            rounds = math.ceil((count - len(self._order)) / len(self.images))
            fresh = [
                torch.randperm(len(self.images), generator=self.generator, device=self.images.device)
                for _ in range(rounds)
            ]
            self._order = torch.cat([self._order, *fresh])
        rows, self._order = self._order[:count], self._order[count:]
        return to_unit(augment(self.images[rows], self.augmentation, self.generator))

    def state_dict(self) -> dict[str, Tensor]:
        """Return which outliers are still to come in this round; the generator is saved with the streams."""
        return {"order": self._order.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._order = state["order"].to(self.images.device)
