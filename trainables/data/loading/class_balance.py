"""Unbalanced classes: how much each class counts, and the order of an epoch in which all are seen equally often."""

import numpy as np
import torch
from torch import Tensor


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the weight of each class, n / (classes that occur x images of the class); 0 for one that does not occur.

    The mean weight of the images is 1, and the weights of a class's images sum to the same for every class.

    Args:
        labels: (n,) of the training images.
        classes: how many there are.

    Returns:
        (classes,) float32.

    Example:
        Labels (0, 0, 0, 1) of 3 classes: 4 / (2 x 3) = 2/3, 4 / (2 x 1) = 2 and 0.
    """
    counts = np.bincount(labels, minlength=classes)
    occurring = np.count_nonzero(counts)
    return np.divide(len(labels), occurring * counts, out=np.zeros(classes), where=counts > 0).astype(
        np.float32
    )


def epoch_order(labels: Tensor, balanced: bool, generator: torch.Generator) -> Tensor:
    """Return the rows of one epoch: every image once, or drawn so that each class is as likely as any other.

    Args:
        labels: (n,) on the generator's device.
        balanced: draw with replacement, an image with a probability of 1 / (classes that occur x images of its class).

    Returns:
        (n,) int64 on the generator's device.
    """
    if not balanced:
        return torch.randperm(len(labels), generator=generator, device=generator.device)
    counts = torch.bincount(labels)
    return torch.multinomial(1.0 / counts[labels], len(labels), replacement=True, generator=generator)
