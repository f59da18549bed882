"""PGD that stops for each image once further steps cannot change whether it is misclassified."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.data.loading.device_loader import to_unit
from trainables.evaluation.attacks.dynamic_batching import Rows, run_attack

#: Step length = STEP_SCALE * epsilon / steps, so that the ball can be crossed twice.
STEP_SCALE = 2.5


def random_starts(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return random starts like the images, float32, uniform in [-1, 1): in units of epsilon."""
    shape = tuple(images.shape)
    return torch.rand(shape, generator=generator, device=images.device, dtype=torch.float32) * 2 - 1


def broken_by_pgd(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    starts: Tensor,
    rows: Tensor,
    epsilon: float,
    *,
    steps: int,
    length: float,
    size: int,
) -> Tensor:
    """Return which images any of the steps + 1 iterates of PGD misclassifies.

    The result is that of the plain loop. An image leaves the batch at its first misclassified iterate. It also
    leaves when an iterate equals an earlier one: the next iterate is a function of the present one alone, so that
    all later ones repeat. With steps of a quarter of epsilon a robust image repeats itself after 15 to 20 steps;
    with steps that shrink as their number grows (2.5 epsilon / steps), hardly before the last ones.

    Call it within `attacks.attack_mode`.

    Args:
        network: (m, c, h, w) in [0, 1] -> logits.
        loss: (logits, labels) -> (m,) what to ascend.
        images: (n, c, h, w), uint8 or in [0, 1]; labels: (n,).
        starts: like images, in [-1, 1]: the random starts in units of epsilon.
        rows: (m,) indices of the images to attack.
        epsilon: Linf radius in [0, 1] pixel units.
        steps: at least 0.
        length: of a step, in pixel units.
        size: images at a time. The iterates of an image do not depend on it, nor on the other images, beyond
            what the rounding of the network's kernels does (none from 5 images of a batch on, on the CPUs tried).

    Returns:
        (m,) bool, in the order of `rows`.

    Source:
        Madry et al. 2018 (PGD); the repetition of sign-gradient iterates: arXiv 2503.19347.
    """
    attack = _PGD(network, loss, images, labels, starts, epsilon, steps, length)
    run_attack(attack, rows, size)
    return attack.broken[rows]


class _PGD:
    """Rows: the image's index, its iterate x, the one before, the box around it, an earlier one, its age in steps."""

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        starts: Tensor,
        epsilon: float,
        steps: int,
        length: float,
    ) -> None:
        self.network, self.loss = network, loss
        self.images, self.labels, self.starts = images, labels, starts
        self.epsilon, self.steps, self.length = epsilon, steps, length
        self.broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.remembered = torch.tensor([is_remembered(age) for age in range(steps + 2)], device=images.device)

    def wanted(self, jobs: Tensor) -> Tensor:
        return ~self.broken[jobs]

    def begin(self, jobs: Tensor) -> Rows:
        centre = to_unit(self.images[jobs])
        low, high = (centre - self.epsilon).clamp_min(0), (centre + self.epsilon).clamp_max(1)
        x = torch.clamp(centre + self.epsilon * self.starts[jobs], low, high)
        over = torch.zeros_like(jobs, dtype=torch.bool)
        age = torch.zeros_like(jobs)
        return {
            "image": jobs,
            "x": x,
            "before": x,
            "low": low,
            "high": high,
            "earlier": x,
            "age": age,
            "over": over,
        }

    def step(self, rows: Rows) -> None:
        labels = self.labels[rows["image"]]
        # asking a GPU would cost more than the gradient saved
        if rows["x"].device.type == "cpu" and bool((rows["age"] >= self.steps).all()):
            with torch.no_grad():
                wrong = self.network(rows["x"]).argmax(1) != labels
            self.broken[rows["image"]] |= wrong & ~rows["over"]
            rows["over"] = torch.ones_like(wrong)
            return
        with torch.enable_grad():
            x = rows["x"].detach().requires_grad_(True)
            logits = self.network(x)
            (gradient,) = torch.autograd.grad(self.loss(logits, labels).sum(), x)
        wrong = logits.detach().argmax(1) != labels
        # a finished row must not go on to iterates that the plain loop does not see
        self.broken[rows["image"]] |= wrong & ~rows["over"]
        moved = torch.clamp(x.detach() + self.length * gradient.sign(), rows["low"], rows["high"])
        # nine of ten alternate between two iterates; longer periods are found by the remembered one
        repeats = _equal(moved, rows["before"]) | _equal(moved, rows["earlier"])
        rows["over"] = rows["over"] | wrong | repeats | (rows["age"] == self.steps)
        rows["age"] = (rows["age"] + 1).clamp_max(self.steps + 1)
        keep = self.remembered[rows["age"]].view(-1, *[1] * (moved.dim() - 1))
        rows["earlier"] = torch.where(keep, moved, rows["earlier"])
        rows["before"], rows["x"] = rows["x"], moved

    def finished(self, rows: Rows) -> Tensor:
        return rows["over"]


def _equal(left: Tensor, right: Tensor) -> Tensor:
    return (left == right).flatten(1).all(1)


def is_remembered(age: int) -> bool:
    """Return whether the iterate of this age is the one that later ones are compared with, until the next.

    Ages 0, 4, 8, 12, 16, 24, 32, 48, 64, 96, ...: the gaps grow with the age, so that a repetition of any period
    is seen in the end, and one of period up to 4 within half of the age at which it began (Brent's method).
    """
    return age % max(4, (1 << age.bit_length()) // 4) == 0
