"""Penultimate features of images, and the fixed subset of training images that detectors are fitted on."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.stream_loader import in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import LazyImages
from trainables.evaluation.attacks.image_batches import batch_size
from trainables.functional.attacks import attack_mode
from trainables.networks import Classifier

FIT_IMAGES = 50_000  #: so many training images are looked at, at most; 2048 features of each are 400 MB
_ROWS = 1024  # rows in float64 at a time


def first_fit_images(train: LabelledImages, limit: int = FIT_IMAGES) -> LabelledImages:
    """Return all training images, or `limit` of them drawn from a fixed seed, in their order."""
    if len(train) <= limit:
        return train
    rows = np.sort(np.random.RandomState(0).permutation(len(train))[:limit])
    images: Any = train.images
    if isinstance(images, LazyImages):
        images = LazyImages(images.source, images.picture_shape, images.rows[rows], images.crop)
    else:
        images = images[rows]
    return LabelledImages(images, train.labels[rows])


def features_of(network: Classifier, images: Any, device: torch.device | str) -> Tensor:
    """Return the penultimate features (n, d) float32 of a set, lazy or not, on the device."""
    device = torch.device(device)
    return torch.cat(
        [batched(network, network.features, x, device) for x in in_order(images, batch_size(device), device)]
    )


@torch.no_grad()
def batched(
    network: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor, device: torch.device
) -> Tensor:
    """Apply a function of images in [0, 1] batch by batch, the network frozen in eval mode."""
    with attack_mode(network), torch.autocast(device.type, enabled=False):
        parts = [function(to_unit(x.to(device))) for x in images.split(batch_size(device))]
    return torch.cat(parts)


@torch.no_grad()
def in_double(function: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Apply a function of float64 rows block by block and return its (n,) values on the CPU."""
    parts: Iterable[Tensor] = (function(z.double()) for z in features.split(_ROWS))
    return torch.cat([part.cpu() for part in parts])
