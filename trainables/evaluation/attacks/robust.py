"""White-box attacks for evaluation: on the class, and on the outlier score itself."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError, unknown
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.stream_loader import in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.pgd import broken_by_pgd
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.functional.attacks import attack_mode

STEP_SCALE = 2.5  # step length = STEP_SCALE * epsilon / steps, so that the ball can be crossed twice
BLOCK_VALUES = (
    2**26
)  #: so many pixel values of a set are on the device at a time; their random starts are 256 MiB

#: images (n, c, h, w) -> (what to ascend (n,), what to remember the largest of (n,))
Judge = Callable[[Tensor], tuple[Tensor, Tensor]]


def batch_size(device: torch.device | str) -> int:
    """Return the images per forward pass: 256 fit a CPU's cache, a GPU wants fewer launches."""
    return 256 if torch.device(device).type == "cpu" else 512


def blocks(images: Any, device: torch.device | str) -> Iterator[Tensor]:
    """Yield the images of a set, lazy or not, in order and in their own dtype, as many as may be there at once.

    A set of up to `BLOCK_VALUES` values is one block: 10,000 images of 32 x 32 x 3 are, of 224 x 224 x 3 it is 445,
    raised to 512 so that a batch on a GPU is full. The size depends on the shape of an image alone, and so do the
    random starts, which are drawn block by block.
    """
    rows = max(512, BLOCK_VALUES // math.prod(images.shape[1:]))
    if isinstance(images, Tensor):
        yield from (part.to(device) for part in images.split(rows))
    else:
        yield from in_order(images, rows, device)


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
    whoever else is still standing.

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
    found, begin = [], 0
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        for images in blocks(data.images, device):
            y = labels[begin : begin + len(images)]
            found.append(_standing(network, images, y, epsilon, protocol, generator))
            begin += len(images)
    return torch.cat(found).cpu().numpy()


def _standing(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
) -> Tensor:
    """Return the verdicts (n,) bool of one block."""
    size = batch_size(images.device)
    with torch.no_grad():
        predicted = torch.cat([network(to_unit(x)).argmax(1) for x in torch.split(images, size)])
    standing = predicted == labels
    for _ in range(protocol.restarts):
        for loss in (_cross_entropy, _margin) if protocol.margin else (_cross_entropy,):
            starts = _starts(images, generator)
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


def attacked_scores(
    network: nn.Module,
    images: Any,
    score_name: str,
    epsilon: float,
    *,
    steps: int = 20,
    restarts: int = 1,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    direction: str = "minimise",
) -> np.ndarray:
    """Return the outlier scores after PGD on the score itself, the worst one seen for each image.

    The clean image counts as seen, and so does every iterate of every restart: an attacked score is never
    better for the defender than the clean one, and more steps of the same path or more
    restarts only make it worse.

    Args:
        images: (n, c, h, w) uint8, or float in [0, 1]: an array, a tensor, or lazy, decoded block by block.
        score_name: one of `SCORES`; attacked as it is, in the form that does not saturate.
        epsilon: Linf radius in [0, 1] pixel units.
        generator: random starts; on the same device.
        direction: "minimise" makes OOD images look ID, "maximise" ID images look OOD.

    Returns:
        (n,) float64.

    Raises:
        InputError: an unknown score or direction.
    """
    score = SCORES[score_name].load()
    if direction not in ("minimise", "maximise"):
        raise InputError(unknown("direction", direction, ("minimise", "maximise")))
    sign = -1.0 if direction == "minimise" else 1.0

    def judge(x: Tensor) -> tuple[Tensor, Tensor]:
        value = sign * score(network(x).double())
        return value, value

    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        worst = [_worst(judge, part, epsilon, steps, restarts, generator) for part in blocks(images, device)]
    if not worst:
        return np.empty(0)  # the metric that follows names the set
    return (sign * torch.cat(worst)).cpu().numpy()


def _worst(
    judge: Judge, images: Tensor, epsilon: float, steps: int, restarts: int, generator: torch.Generator
) -> Tensor:
    """Return the largest value of each image of one block, (n,) float64."""
    worst = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
    for restart in range(restarts):
        starts = _starts(images, generator)
        for rows in torch.split(torch.arange(len(images), device=images.device), batch_size(images.device)):
            x = to_unit(images[rows])
            if restart == 0:
                with torch.no_grad():
                    worst[rows] = judge(x)[1]
            worst[rows] = torch.maximum(worst[rows], _climb(judge, x, starts[rows], epsilon, steps))
    return worst


def _climb(judge: Judge, images: Tensor, starts: Tensor, epsilon: float, steps: int) -> Tensor:
    """Run PGD and return the largest value remembered over all iterates, (n,).

    Args:
        images: (n, c, h, w) in [0, 1], the centres.
        starts: like images, in [-1, 1]: the random start in units of epsilon.
    """
    low, high = (images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1)
    length = STEP_SCALE * epsilon / steps
    x = torch.clamp(images + epsilon * starts, low, high)
    best: Tensor | None = None
    for _ in range(steps):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            objective, value = judge(x)
            (gradient,) = torch.autograd.grad(objective.sum(), x)
        value = value.detach()
        best = value if best is None else torch.maximum(best, value)
        x = torch.clamp(x.detach() + length * gradient.sign(), low, high)
    with torch.no_grad():
        last = judge(x)[1]
    return last if best is None else torch.maximum(best, last)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    # the cross-entropy of a confident network rounds to 0 and has no gradient; the margin keeps one
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own)[:, 0]


def _starts(images: Tensor, generator: torch.Generator) -> Tensor:
    shape = tuple(images.shape)
    return torch.rand(shape, generator=generator, device=images.device, dtype=torch.float32) * 2 - 1
