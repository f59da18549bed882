"""Accuracy under PGD on the cross-entropy and on the margin."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.loading.device_loader import to_unit
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.image_batches import batch_size, image_blocks
from trainables.evaluation.attacks.pgd import STEP_SCALE, broken_by_pgd, random_starts
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.functional.attacks import attack_mode


def robust_accuracy(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> float:
    """Return the share of `robust_verdicts` that hold, in [0, 1]; at epsilon 0 this is the clean accuracy."""
    return float(robust_verdicts(network, data, epsilon, protocol, generator, device).mean())


def robust_verdicts(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> np.ndarray:
    """Return which images stay right under every attack: PGD on the cross-entropy and on the margin.

    The margin is attacked if the protocol asks for it. An image counts as broken if any iterate of any
    restart is misclassified. Broken images are left out of the attacks that follow; as each attack draws one
    random start for every image of a block beforehand, this changes no verdict: image i gets the i-th start
    whichever others are left.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits; evaluated in eval mode, left as it was.
        data: every image of it is attacked; lazy ones are decoded block by block.
        epsilon: Linf radius in [0, 1] pixel units.
        protocol: its steps, restarts and margin.
        generator: random starts; on the same device.

    Returns:
        (n,) bool.

    Source:
        Madry et al. 2018 (PGD); margin loss max_{j != y} z_j - z_y of Carlini & Wagner 2017. Ours: any
        iterate counts, not only the last.
    """
    labels = torch.tensor(np.asarray(data.labels), device=device)
    verdicts, begin = [], 0
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        for images in image_blocks(data.images, device):
            y = labels[begin : begin + len(images)]
            verdicts.append(_standing(network, images, y, epsilon, protocol, generator))
            begin += len(images)
    return torch.cat(verdicts).cpu().numpy()


def _standing(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
) -> Tensor:
    """Return which images (n,) bool of one block stay right."""
    size = batch_size(images.device)
    with torch.no_grad():
        predicted = torch.cat([network(to_unit(x)).argmax(1) for x in torch.split(images, size)])
    standing = predicted == labels
    for _ in range(protocol.restarts):
        for loss in (_cross_entropy, _margin) if protocol.margin else (_cross_entropy,):
            starts = random_starts(images, generator)
            rows = standing.nonzero()[:, 0]
            standing[rows] = ~broken_by_pgd(
                network,
                loss,
                images,
                labels,
                starts,
                rows,
                epsilon,
                steps=protocol.steps,
                length=STEP_SCALE * epsilon / protocol.steps,
                size=size,
            )
    return standing


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    # the cross-entropy of a confident network rounds to 0 and has no gradient; the margin keeps one
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own)[:, 0]
