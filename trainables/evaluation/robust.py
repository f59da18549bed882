"""White-box attacks for evaluation: on the class, and on the outlier score itself."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.attacks import attack_mode
from trainables.data.benchmark import LabelledImages
from trainables.data.loader import to_device, to_unit
from trainables.errors import InputError
from trainables.evaluation.scores import SCORES
from trainables.evaluation.spec import Protocol
from trainables.options.schema import unknown

STEP_SCALE = 2.5  # step length = STEP_SCALE * epsilon / steps, so that the ball can be crossed twice

#: images (n, c, h, w) -> (what to ascend (n,), what to remember the largest of (n,))
Judge = Callable[[Tensor], tuple[Tensor, Tensor]]


def batch_size(device: torch.device | str) -> int:
    """Return the images per forward pass: 256 fit a CPU's cache, a GPU wants fewer launches."""
    return 256 if torch.device(device).type == "cpu" else 512


def robust_accuracy(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    protocol: Protocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> float:
    """Return the share of `robust_verdicts` that hold, in [0, 1]; at epsilon 0 this is the clean accuracy."""
    return float(robust_verdicts(network, data, epsilon, protocol, generator, device).mean())


def robust_verdicts(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    protocol: Protocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> np.ndarray:
    """Return which images stay right under every attack: PGD on the cross-entropy and on the margin.

    The margin is attacked if the protocol asks for it. An image counts as broken if any iterate of any
    restart is misclassified. Broken images are left out of the attacks that follow; as each attack draws one
    random start for every image of the set beforehand, this changes no verdict: image i gets the i-th start
    whoever else is still standing.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits; evaluated in eval mode, left as it was.
        data: every image of it is attacked.
        epsilon: Linf radius in [0, 1] pixel units.
        protocol: its steps, restarts and margin.
        generator: random starts; on the same device.

    Returns:
        (n,) bool.

    Source:
        Madry et al. 2018 (PGD); margin loss max_{j != y} z_j - z_y of Carlini & Wagner 2017. Ours: any
        iterate counts, not only the last.
    """
    size = batch_size(device)
    images, labels = to_device(data.images, device), to_device(data.labels, device)
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        with torch.no_grad():
            predicted = torch.cat([network(to_unit(x)).argmax(1) for x in torch.split(images, size)])
        standing = predicted == labels
        for _ in range(protocol.restarts):
            for loss in (_cross_entropy, _margin) if protocol.margin else (_cross_entropy,):
                starts = _starts(images, generator)
                for rows in torch.split(standing.nonzero()[:, 0], size):
                    x, y = to_unit(images[rows]), labels[rows]
                    judge = _class_judge(network, loss, y)
                    standing[rows] = _climb(judge, x, starts[rows], epsilon, protocol.steps) == 0
    return standing.cpu().numpy()


def attacked_scores(
    network: nn.Module,
    images: np.ndarray | Tensor,
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
        images: (n, c, h, w) uint8, or float in [0, 1].
        score_name: one of `SCORES`; attacked as it is, in the form that does not saturate.
        epsilon: Linf radius in [0, 1] pixel units.
        generator: random starts; on the same device.
        direction: "minimise" makes OOD images look ID, "maximise" ID images look OOD.

    Returns:
        (n,) float64.

    Raises:
        InputError: an unknown score or direction.
    """
    if score_name not in SCORES:
        raise InputError(unknown("outlier score", score_name, SCORES))
    if direction not in ("minimise", "maximise"):
        raise InputError(unknown("direction", direction, ("minimise", "maximise")))
    sign = -1.0 if direction == "minimise" else 1.0
    score = SCORES[score_name]

    def judge(x: Tensor) -> tuple[Tensor, Tensor]:
        value = sign * score(network(x).double())
        return value, value

    pool = images.to(device) if isinstance(images, Tensor) else to_device(images, device)
    size = batch_size(device)
    worst = torch.full((len(pool),), -torch.inf, dtype=torch.float64, device=pool.device)
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        for restart in range(restarts):
            starts = _starts(pool, generator)
            for rows in torch.split(torch.arange(len(pool), device=pool.device), size):
                x = to_unit(pool[rows])
                if restart == 0:
                    with torch.no_grad():
                        worst[rows] = judge(x)[1]
                found = _climb(judge, x, starts[rows], epsilon, steps)
                worst[rows] = torch.maximum(worst[rows], found)
    return (sign * worst).cpu().numpy()


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


def _class_judge(network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Judge:
    def judge(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(x)
        return loss(logits, labels), (logits.argmax(1) != labels).float()

    return judge


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    # the cross-entropy of a confident network rounds to 0 and has no gradient; the margin keeps one
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own)[:, 0]


def _starts(images: Tensor, generator: torch.Generator) -> Tensor:
    shape = tuple(images.shape)
    return torch.rand(shape, generator=generator, device=images.device, dtype=torch.float32) * 2 - 1
