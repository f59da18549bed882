"""Attacks on stacked replicas: each with its own radius, step length and number of steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: (k, n, c, h, w) images of the first k replicas -> (k, n) values.
StackedObjective = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AscentSettings:
    """The attack of one replica; its numbers are those of `trainables.functional.attacks.ascend`.

    Attributes:
        generator: of the random start; None starts at the images.
        momentum: None, or the share of the previous direction (all replicas or none).
    """

    epsilon: float
    steps: int
    step_scale: float
    generator: torch.Generator | None
    momentum: float | None = None


class StackedAscent:
    """Signed gradient ascent of K replicas, each within its own Linf ball and the [0, 1] box.

    In every step only the replicas up to the last that still has a step to go are forwarded: sorted by steps,
    longest first, no replica is forwarded in vain; the order does not change the result.
    """

    def __init__(self, ascents: Sequence[AscentSettings], device: torch.device) -> None:
        """Take the replicas' attacks; their numbers go to the device once."""
        self.ascents = tuple(ascents)
        self.steps = [0 if a.epsilon == 0 else a.steps for a in ascents]

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device).view(-1, 1, 1, 1, 1)

        self.epsilon = column([a.epsilon for a in ascents])
        self.step = column([a.step_scale * a.epsilon / a.steps for a in ascents])
        self.momentum = None
        if any(a.momentum is not None for a in ascents):
            self.momentum = column([a.momentum or 0.0 for a in ascents])
        self.turns = []  # per step: (how many of the first replicas are forwarded, mask of those that move)
        for turn in range(max(self.steps, default=0)):
            moving = [steps > turn for steps in self.steps]
            reach = max(k for k, moves in enumerate(moving) if moves) + 1
            mask = None
            if not all(moving[:reach]):
                mask = torch.tensor(moving[:reach], device=device).view(-1, 1, 1, 1, 1)
            self.turns.append((reach, mask))

    def __call__(self, objective: StackedObjective, images: Tensor) -> Tensor:
        """Return attacked images, detached, (K, n, c, h, w) in [0, 1]."""
        images = images.detach()
        if not self.turns:
            return images
        epsilon, step = self.epsilon.to(images.dtype), self.step.to(images.dtype)
        lower, upper = (images - epsilon).clamp_(min=0.0), (images + epsilon).clamp_(max=1.0)
        current = self._start(images, lower, upper)
        previous = torch.zeros_like(images) if self.momentum is not None else None
        for reach, mask in self.turns:
            inputs = current[:reach].detach().requires_grad_(True)
            with torch.enable_grad():
                (direction,) = torch.autograd.grad(objective(inputs).sum(), inputs)
            if previous is not None and self.momentum is not None:
                scale = direction.abs().mean(dim=(2, 3, 4), keepdim=True)
                kept = self.momentum[:reach].to(images.dtype) * previous[:reach]
                direction = direction / scale.clamp_min(torch.finfo(scale.dtype).tiny) + kept
                previous[:reach] = direction
            moved = current[:reach] + step[:reach] * direction.sign()
            moved = torch.clamp(moved, lower[:reach], upper[:reach])
            current[:reach] = moved if mask is None else torch.where(mask, moved, current[:reach])
        return current

    def _start(self, images: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        if all(a.generator is None for a in self.ascents):
            return images.clone()
        noise = torch.zeros_like(images)
        for row, a in zip(noise, self.ascents, strict=True):
            if a.generator is not None and a.epsilon:  # without an attack alone draws nothing either
                row.uniform_(-a.epsilon, a.epsilon, generator=a.generator)
        return torch.clamp(images + noise, lower, upper)
