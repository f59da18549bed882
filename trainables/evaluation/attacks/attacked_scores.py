"""Outlier scores under attack: PGD on the score itself, the worst value of each image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError, unknown
from trainables.data.loading.device_loader import to_unit
from trainables.evaluation.attacks.image_batches import batch_size, image_blocks
from trainables.evaluation.attacks.pgd import STEP_SCALE, random_starts
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.functional.attacks import attack_mode

#: images (n, c, h, w) -> (objective to ascend (n,), value whose maximum over the iterates is kept (n,))
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


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
    """Return the outlier scores after PGD on the score itself, the worst value seen for each image.

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

    def objective(x: Tensor) -> tuple[Tensor, Tensor]:
        value = sign * score(network(x).double())
        return value, value

    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        worst = [
            _worst(objective, part, epsilon, steps, restarts, generator)
            for part in image_blocks(images, device)
        ]
    if not worst:
        return np.empty(0)  # the metric that follows names the set
    return (sign * torch.cat(worst)).cpu().numpy()


def _worst(
    objective: Objective,
    images: Tensor,
    epsilon: float,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the largest value of each image of one block, (n,) float64."""
    worst = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
    for restart in range(restarts):
        starts = random_starts(images, generator)
        for rows in torch.split(torch.arange(len(images), device=images.device), batch_size(images.device)):
            x = to_unit(images[rows])
            if restart == 0:
                with torch.no_grad():
                    worst[rows] = objective(x)[1]
            worst[rows] = torch.maximum(worst[rows], _climb(objective, x, starts[rows], epsilon, steps))
    return worst


def _climb(objective: Objective, images: Tensor, starts: Tensor, epsilon: float, steps: int) -> Tensor:
    """Run PGD and return the largest value over all iterates, (n,).

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
            ascended, value = objective(x)
            (gradient,) = torch.autograd.grad(ascended.sum(), x)
        value = value.detach()
        best = value if best is None else torch.maximum(best, value)
        x = torch.clamp(x.detach() + length * gradient.sign(), low, high)
    with torch.no_grad():
        last = objective(x)[1]
    return last if best is None else torch.maximum(best, last)
