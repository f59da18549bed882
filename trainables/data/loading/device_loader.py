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

RESIZED = "resized_crop_flip"  #: the augmentation by `crop_boxes`
SMALLEST_CROP = 0.08  #: share of a picture's area
TRIES = 10  #: windows that are drawn for an image


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
            "resized_crop_flip": see `resized_crops`; float32 in [0, 1], also of uint8.

    Returns:
        A tensor of the same shape.
    """
    n, channels, h, w = images.shape
    if kind == RESIZED:
        return augment(resized_crops(images, generator), "flip", generator)
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


def crop_boxes(height: int, width: int, draws: Tensor) -> Tensor:
    """Return a window for each row of draws, (n, 4): top, left, height and width in pixels.

    A window has 8 to 100 % of the area and a ratio of width to height between 3/4 and 4/3, log-uniform. The first of
    `TRIES` that fits is taken, else the whole picture, cut to such a ratio, from its middle.

    Args:
        draws: (n, TRIES, 4) uniform in [0, 1).

    Source:
        Szegedy et al. 2015, as torchvision's RandomResizedCrop has it.

    Example:
        100 x 200 pixels, draws (0.5, 0.5, 0.5, 0): area 0.54 x 20000 and ratio 1 are 104 x 104, which does not fit;
        with (0, 0.5, 0.5, 0) 0.08 x 20000 is 40 x 40, its top at 61 * 0.5 = 30, its left at 0.
    """
    area = height * width * (SMALLEST_CROP + (1 - SMALLEST_CROP) * draws[..., 0])
    ratio = torch.exp(math.log(4 / 3) * (2 * draws[..., 1] - 1))
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)  # the first of the largest values
    w, h, down, across = (x.gather(1, first).squeeze(1) for x in (w, h, draws[..., 2], draws[..., 3]))
    boxes = torch.stack([((height - h + 1) * down).floor(), ((width - w + 1) * across).floor(), h, w], dim=1)
    whole_h, whole_w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    middle = [(height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w]
    return torch.where(fits.any(1, keepdim=True), boxes, boxes.new_tensor(middle))


def resized_crops(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a window of each image, see `crop_boxes`, scaled bilinearly to the image's size.

    Args:
        images: (n, c, h, w).
    """
    n, _, height, width = images.shape
    draws = torch.rand(n, TRIES, 4, generator=generator, device=images.device)
    top, left, h, w = (
        crop_boxes(height, width, draws) / images.new_tensor([height, width] * 2, dtype=torch.float32)
    ).T
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = w, 2 * left + w - 1  # of coordinates in [-1, 1]
    theta[:, 1, 1], theta[:, 1, 2] = h, 2 * top + h - 1
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(to_unit(images), grid, padding_mode="border", align_corners=False)


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
