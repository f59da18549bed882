"""How many images an evaluation holds on the device and passes through the network at a time."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainables.data.loading.stream_loader import in_order

#: Pixel values of a set that are on the device at a time; the random starts of an attack on them are 256 MiB.
BLOCK_VALUES = 2**26


def batch_size(device: torch.device | str) -> int:
    """Return the images per forward pass: 256 fit a CPU's cache, a GPU wants fewer launches."""
    return 256 if torch.device(device).type == "cpu" else 512


def image_blocks(images: Any, device: torch.device | str) -> Iterator[Tensor]:
    """Yield the images of a set, lazy or not, in order and in their own dtype, in blocks of limited size.

    A set of up to `BLOCK_VALUES` values is one block: 10,000 images of 32 x 32 x 3 are, of 224 x 224 x 3 it is 445,
    raised to 512 so that a batch on a GPU is full. The size depends on the shape of an image alone, and so do the
    random starts, which are drawn block by block.
    """
    rows = max(512, BLOCK_VALUES // math.prod(images.shape[1:]))
    if isinstance(images, Tensor):
        yield from (part.to(device) for part in images.split(rows))
    else:
        yield from in_order(images, rows, device)
