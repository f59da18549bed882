"""APGD-CE and APGD-T, the two gradient attacks of AutoAttack, in dynamic batches: fast enough for use in a search.

The accuracy under them is an upper bound of AutoAttack's robust accuracy, usually a tight one, and must not be
reported under that name: FAB-T and Square have not run.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.base.seeds import derive_seed
from trainables.data.loading.device_loader import to_device, to_unit
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.autoattack import Attack, AttackBudget, plan
from trainables.evaluation.attacks.dynamic_batching import Rows, run_attack
from trainables.evaluation.attacks.image_batches import batch_size as default_batch_size
from trainables.functional.attacks import attack_mode

#: Share of the new step in an iterate; the rest is momentum.
STEP_SHARE = 0.75
#: A step is halved where fewer than this share of the steps since the last checkpoint raised the loss.
RISING_SHARE = 0.75
#: How much the loss of a target may still have to rise, in units of its rise so far; see `apgd_verdicts`.
REACH = 0.5


def apgd_verdicts(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    *,
    iterations: int = 100,
    targets: int = 9,
    restarts: int = 1,
    reach: float = REACH,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int = 0,
) -> np.ndarray:
    """Return which images stay right under APGD on the cross-entropy and on the targeted DLR loss.

    An image counts as broken if any iterate is misclassified; it leaves the batch then, and a waiting image takes its
    place. When fewer images are left than a batch holds, several targets of one image are tried at once. Runs whose
    iterate no longer moves leave too. None of this changes a verdict: the random start of (image, target,
    restart) is a function of these and the seed, on every device, and rows of a batch do not see one another.

    Giving up a target that is out of reach may change a verdict. The targeted loss rises from below 0 to 0, where the
    target class overtakes. At the checkpoints after 22 %, 41 %, ... of the iterations, a run whose loss has risen
    ends if the loss must still rise by more than `reach` times its rise so far. On eleven digits networks (4,400
    images) no verdict changed down to a reach of 0.1; the default is five times as patient, and saves two thirds of
    the passes.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits, on the device; run in eval mode with frozen parameters, left as
            it was.
        data: classes 0, 1, ...; every image of it is attacked.
        epsilon: Linf radius in [0, 1] pixel units.
        iterations: gradient steps of each run; AutoAttack takes 100.
        targets: the most likely other classes, at most so many; AutoAttack takes 9.
        restarts: runs for each loss and target.
        reach: at least 0; `math.inf` gives no target up.
        seed: of the random starts.
        batch_size: rows at a time; 0 chooses by device.

    Returns:
        (n,) bool.

    Raises:
        InputError: no images, or labels that are no classes of the network.

    Source:
        Croce & Hein 2020, algorithm 1 and equations 5 to 7. Where paper and published code differ, the code
        (version "standard"): starts on the surface of the ball; the first checkpoint counts the first iterate as a rise
        if its loss is positive. With K < 10 classes K - 1 targets; with K = 3 the untargeted DLR loss, with K = 2
        the cross-entropy alone, as `autoattack.plan` has it.
    """
    if len(data) == 0:
        raise InputError("APGD got no images")
    images, labels = to_device(data.images, device), to_device(data.labels, device)
    size = batch_size or default_batch_size(device)
    with attack_mode(network), torch.autocast(torch.device(device).type, enabled=False):
        logits = _logits(network, images, size)
        _check(data, int(logits.shape[1]))
        _, attacks, most = plan(int(logits.shape[1]), AttackBudget(iterations, targets))
        broken = (logits.argmax(1) != labels).int()
        others = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
        for attack in attacks:
            if attack not in LOSSES:
                continue
            ranks = most if attack is Attack.APGD_T else 1
            for restart in range(restarts):
                key = derive_seed(seed, attack, restart)
                problem = _Problem(
                    network, images, labels, others[:, :ranks], attack, epsilon, iterations, reach, key
                )
                jobs = torch.arange(ranks * len(images), device=images.device)
                run_attack(_APGD(problem, broken), jobs, size)
    return (broken == 0).cpu().numpy()


@dataclass(frozen=True)
class _Problem:
    """What is attacked and how; `others` (n, ranks) are the targets of each image, most likely first."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    others: Tensor
    attack: Attack
    epsilon: float
    iterations: int
    reach: float
    key: int


class _APGD:
    """One loss; job j attacks image j % n with its target of rank j // n.

    Rows: the iterate x, the one before it, the best one so far and its gradient, the box around the image, the
    step length, and what its next checkpoint needs.
    """

    def __init__(self, problem: _Problem, broken: Tensor) -> None:
        self.problem, self.broken = problem, broken
        device = problem.images.device
        self.windows = torch.tensor(windows(problem.iterations), device=device)

    def wanted(self, jobs: Tensor) -> Tensor:
        return self.broken[jobs % len(self.broken)] == 0

    def begin(self, jobs: Tensor) -> Rows:
        problem = self.problem
        n = len(self.broken)
        image = jobs % n
        centre = to_unit(problem.images[image])
        low, high = (centre - problem.epsilon).clamp_min(0), (centre + problem.epsilon).clamp_max(1)
        noise = uniform(problem.key, jobs, centre[0].numel()).view(centre.shape)
        largest = noise.abs().flatten(1).amax(1).view(-1, *[1] * (centre.dim() - 1))
        x = (centre + problem.epsilon * (noise / (largest + 1e-12))).clamp(0, 1)
        none = torch.zeros(len(jobs), device=x.device)
        return {
            "image": image,
            "label": problem.labels[image],
            "target": problem.others[image, jobs // n],
            "low": low,
            "high": high,
            "x": x,
            "before": x,
            "best": x,
            "best_gradient": torch.zeros_like(x),
            "best_loss": none - torch.inf,
            "checked_loss": none - torch.inf,
            "first_loss": none,
            "loss": none,
            "rises": none,
            "halved": torch.ones_like(jobs, dtype=torch.bool),
            "over": torch.zeros_like(jobs, dtype=torch.bool),
            "step": torch.full_like(largest, 2 * problem.epsilon),
            "age": torch.zeros_like(jobs),
        }

    def step(self, rows: Rows) -> None:
        x = rows["x"]
        loss, gradient = self._loss_and_gradient(rows)
        better = loss > rows["best_loss"]
        image_like = (-1, *[1] * (x.dim() - 1))
        rows["best_loss"] = torch.where(better, loss, rows["best_loss"])
        rows["best"] = torch.where(better.view(image_like), x, rows["best"])
        rows["best_gradient"] = torch.where(better.view(image_like), gradient, rows["best_gradient"])
        first = rows["age"] == 0
        rows["rises"] = rows["rises"] + ((loss > rows["loss"]) & ~first)
        rows["first_loss"] = torch.where(first, loss, rows["first_loss"])
        # the published code compares the first iterate's loss with 0, not with that of the start
        rows["loss"] = torch.where(first, 0.0, loss)
        back = self._apply_checkpoint(rows).view(image_like)
        x, gradient = torch.where(back, rows["best"], x), torch.where(back, rows["best_gradient"], gradient)
        ahead = torch.clamp(x + rows["step"] * gradient.sign(), rows["low"], rows["high"])
        mixed = x + (ahead - x) * STEP_SHARE + (x - rows["before"]) * (1 - STEP_SHARE)
        moved = torch.where(first.view(image_like), ahead, torch.clamp(mixed, rows["low"], rows["high"]))
        # at the best point, without momentum, and the step leads back into the face of the box: so will all others
        still = (moved == x) & (x == rows["before"]) & (x == rows["best"])
        rows["over"] = rows["over"] | still.flatten(1).all(1)
        rows["before"], rows["x"] = x, moved
        rows["age"] = rows["age"] + 1

    def finished(self, rows: Rows) -> Tensor:
        broken = self.broken[rows["image"]] > 0
        return broken | rows["over"] | (rows["age"] > self.problem.iterations)

    def _loss_and_gradient(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return losses (rows,) and their gradients, and record who is misclassified."""
        with torch.enable_grad():
            x = rows["x"].detach().requires_grad_(True)
            logits = self.problem.network(x)
            loss = LOSSES[self.problem.attack](logits, rows["label"], rows["target"])
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        wrong = (logits.detach().argmax(1) != rows["label"]) & (rows["age"] <= self.problem.iterations)
        self.broken.index_add_(0, rows["image"], wrong.int())  # several rows may be of one image
        return loss.detach(), gradient

    def _apply_checkpoint(self, rows: Rows) -> Tensor:
        """Apply the checkpoint's rules to the rows that have reached one: halve the steps of those whose loss rises too
        seldom, return (rows,) which these are, and end those whose target is out of reach.
        """
        window = self.windows[rows["age"].clamp_max(self.problem.iterations)]
        due = window > 0
        lazy = rows["rises"] <= RISING_SHARE * window
        stuck = ~rows["halved"] & (rows["checked_loss"] >= rows["best_loss"])
        back = due & (lazy | stuck)
        rows["step"] = torch.where(back.view_as(rows["step"]), rows["step"] / 2, rows["step"])
        rows["halved"] = torch.where(due, back, rows["halved"])
        rows["checked_loss"] = torch.where(due, rows["best_loss"], rows["checked_loss"])
        rows["rises"] = torch.where(due, 0.0, rows["rises"])
        if self.problem.attack is Attack.APGD_T:  # the only loss whose 0 is the end of the way
            risen = rows["best_loss"] - rows["first_loss"]
            far = -rows["best_loss"] > self.problem.reach * risen
            rows["over"] = rows["over"] | (due & (risen > 0) & far)
        return back


def windows(iterations: int) -> list[int]:
    """Return for each iterate 0, 1, ... how many steps its checkpoint judges; 0 where there is none.

    The first checkpoint is after 22 % of the iterations; each interval is 3 % shorter than the last, down to 6 %.

    Example:
        100 iterations: checkpoints at 22, 41, 57, 70, 80, 87, 93 and 99.
    """
    first, shrink, least = (max(int(share * iterations), 1) for share in (0.22, 0.03, 0.06))
    judged = [0] * (iterations + 1)
    age = window = first
    while age <= iterations:
        judged[age] = window
        window = max(window - shrink, least)
        age += window
    return judged


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return -(z_y - max over j != y of z_j) / (z_1 - z_3), sorted downwards; at least 3 classes.

    Example:
        Logits (5, 3, 1), label 0: -(5 - 3) / (5 - 1) = -1/2.
    """
    top = logits.topk(3, dim=1).values
    own = logits.gather(1, labels[:, None])[:, 0]
    other = torch.where(logits.argmax(1) == labels, top[:, 1], top[:, 0])
    return -(own - other) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), sorted downwards; at least 4 classes.

    Example:
        Logits (5, 3, 1, -1), label 0, target 1: -(5 - 3) / (5 - 0) = -2/5.
    """
    top = logits.topk(4, dim=1).values
    own, target = logits.gather(1, torch.stack([labels, targets], 1)).unbind(1)
    return -(own - target) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def _cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


LOSSES = {Attack.APGD_CE: _cross_entropy, Attack.APGD_DLR: dlr, Attack.APGD_T: targeted_dlr}


def uniform(key: int, rows: Tensor, count: int) -> Tensor:
    """Return (n, count) float32 in [-1, 1), a function of the key and of rows (n,) alone, on every device.

    Row r gets the numbers r * count, r * count + 1, ... of the stream SplitMix64(key).

    Source:
        Steele, Lea & Flood 2014, Fast Splittable Pseudorandom Number Generators.
    """
    numbers = rows[:, None] * count + torch.arange(1, count + 1, device=rows.device)
    z = numbers * _signed(0x9E3779B97F4A7C15) + _signed(key)  # int64 wraps around, as the algorithm wants it
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(z ^ _shifted(z, 31), 40).float() / 2**23 - 1  # 24 bits are what a float32 holds


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; `>>` alone fills with the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(bits: int) -> int:
    bits %= 1 << 64
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def _logits(network: nn.Module, images: Tensor, size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(to_unit(x)) for x in torch.split(images, size)])


def _check(data: LabelledImages, classes: int) -> None:
    if not 0 <= data.labels.min() <= data.labels.max() < classes:
        present = f"{data.labels.min()} to {data.labels.max()}"
        raise InputError(f"APGD needs labels 0 to {classes - 1}, the classes of the network, not {present}")
