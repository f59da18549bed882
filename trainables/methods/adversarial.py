"""Adversarial training: PGD-AT, TRADES and MART; and how fast the decision boundary moves in training."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.loading.device_loader import to_device, to_unit
from trainables.data.types.splits import Split
from trainables.functional.attacks import Objective, ascend, attack_mode
from trainables.functional.boundary import Boundary, closest_boundary, relative_speed, soft_margin
from trainables.functional.losses import full_precision
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.networks import Classifier
from trainables.options.adversarial import MARTOptions, PGDATOptions, TRADESOptions
from trainables.options.attacks import PASSES_PER_STEP
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, Method, Trainer

#: The diagnostic's own search: every method's boundary is looked for in the same way.
SPEED_TEMPERATURE = 5.0
SPEED_SEARCH_STEPS = 15
SPEED_EPSILON_INIT = 0.03


def divergence(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """Return KL(p || q) of the softmax p of clean and q of attacked logits.

    Args:
        logits, logits_adv: (n, classes).

    Returns:
        (n,) at least 0.

    Example:
        p = (1/2, 1/2), q = (3/4, 1/4): log(2 / sqrt 3).
    """
    log_p, log_q = full_precision(logits).log_softmax(1), full_precision(logits_adv).log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def trades_loss(
    logits: Tensor,
    logits_adv: Tensor,
    labels: Tensor,
    beta: float,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean(CE) + beta mean(KL(p || q)) and both means.

    Args:
        logits, logits_adv: (n, classes) of clean and attacked images.
        labels: (n,).
        beta: weight of the divergence.
        smoothing: share of each label that is spread evenly over all classes.
        class_weights: (classes,) of the cross-entropy, whose mean is then the weighted one.

    Source:
        Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy, equation 5, in
        the batch-mean form of the authors' code, which has no smoothing.

    Example:
        Logits 0 against attacked (log 3, 0), label 0, beta 2: log 2 + 2 log(2 / sqrt 3).
    """
    ce = F.cross_entropy(full_precision(logits), labels, class_weights, label_smoothing=smoothing)
    kl = divergence(logits, logits_adv).mean()
    return ce + beta * kl, ce, kl


def mart_loss(
    logits: Tensor, logits_adv: Tensor, labels: Tensor, beta: float, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return BCE + beta mean(KL(p || q) (1 - p_y)) and both terms; p clean, q attacked.

    The boosted cross-entropy is mean(CE(q, y) - log(1.0001 - max over j != y of q_j)).

    Args:
        logits, logits_adv: (n, classes) of clean and attacked images.
        labels: (n,).
        beta: weight of the divergence.
        class_weights: (classes,) of the boosted cross-entropy, whose mean is then the weighted one.

    Source:
        Wang et al. 2020, Improving Adversarial Robustness Requires Revisiting Misclassified Examples,
        equation 11. The divergence is computed from logarithms, without the code's 1e-12.

    Example:
        Logits 0 against attacked (log 3, 0), label 0, beta 2: CE log(4/3), boost -log(.7501),
        divergence log(2 / sqrt 3) times 2 / 2.
    """
    logits, logits_adv = full_precision(logits), full_precision(logits_adv)
    wrong = logits_adv.softmax(1).scatter(1, labels[:, None], 0.0).amax(1)
    boost = -torch.log(1.0001 - wrong)
    bce = F.cross_entropy(logits_adv, labels, class_weights) + _mean(boost, labels, class_weights)
    doubt = 1 - logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    kl = (divergence(logits, logits_adv) * doubt).mean()
    return bce + beta * kl, bce, kl


def _mean(values: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the mean of (n,) values, each weighed by its class if there are weights."""
    if class_weights is None:
        return values.mean()
    weights = class_weights[labels]
    return (weights * values).sum() / weights.sum()


class PGDAT(ClassifierMethod):
    """Cross-entropy on images that PGD attacks anew in every step.

    Source:
        Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks; random start, the
        attack in eval mode.
    """

    options: PGDATOptions

    def __init__(self, options: PGDATOptions, context: Context) -> None:
        super().__init__(options, context)
        self.network = initial_network(options, context)
        if options.from_pretrained:
            self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.trainer = Trainer(self.network, options, len(self.loader))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return its loss terms and, if asked for, the speed of the boundary."""
        generator = self.streams.get("attack")
        self.network.train()
        for images, labels in self.loader:
            attacked = self.perturb(images, labels, generator)
            loss, terms = self.loss(images, attacked, labels)
            self.trainer.step(loss, **terms)
        return self.end_epoch(epoch)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        self.passes += self.passes_per_image()
        return self.trainer.epoch_means() | self._speed(epoch)

    def objective(self, network: Classifier, images: Tensor, labels: Tensor) -> Objective:
        """Return what the attack ascends: the cross-entropy. Called in the mode in which it will be attacked."""
        return lambda x: F.cross_entropy(full_precision(network(x)), labels, reduction="none")

    def perturb(self, images: Tensor, labels: Tensor, generator: torch.Generator, mode: str = "") -> Tensor:
        """Return attacked images, detached, in the ball and in [0, 1]; `mode` overrides `attack_bn`."""
        attack, mode = self.options.attack, mode or self.options.attack_bn
        network = self.attacked(self.network, mode)
        with attack_mode(network, mode):
            return ascend(
                self.objective(network, images, labels),
                images,
                attack.epsilon * attack.widen,
                attack.steps,
                step_scale=attack.step_scale,
                generator=generator,
            )

    def loss(self, images: Tensor, attacked: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss and its terms by name."""
        return F.cross_entropy(full_precision(self.network(attacked)), labels, self.class_weights), {}

    def passes_per_image(self) -> float:
        """Return what one epoch costs for each image, in forward passes of one image."""
        attack = self.options.attack
        return TRAINING_PASSES + (
            PASSES_PER_STEP * attack.steps if attack.epsilon * attack.widen > 0 else 0.0
        )

    def _speed(self, epoch: int) -> dict[str, float]:
        if not self.options.speed_images:
            return {}
        images, labels = speed_batch(self)
        attacked = self.perturb(images, labels, self.streams.fresh("speed_attack", epoch), "eval")
        self.network.eval()
        loss, _ = self.loss(images, attacked, labels)
        return speed_report(self, images, labels, loss, SPEED_TEMPERATURE)


class TRADES(PGDAT):
    """Clean cross-entropy plus the divergence from clean to attacked predictions, which the attack ascends.

    Source:
        Zhang et al. 2019. What differs: the attack starts uniformly in the ball (there: Gaussian of 1e-3).
        The DyART code attacks in train mode (`attack_bn=train`) with label smoothing .1.
    """

    options: TRADESOptions

    def objective(self, network: Classifier, images: Tensor, labels: Tensor) -> Objective:
        """Return the divergence from the predictions at the clean images."""
        with torch.no_grad():
            log_p = full_precision(network(images)).log_softmax(1)
        p = log_p.exp()
        # KL(p || q) but for the entropy of p, which no attack changes
        return lambda x: -(p * full_precision(network(x)).log_softmax(1)).sum(1)

    def loss(self, images: Tensor, attacked: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, ce, kl = trades_loss(
            self.network(images),
            self.network(attacked),
            labels,
            self.options.beta,
            self.options.label_smoothing,
            self.class_weights,
        )
        return loss, {"ce": ce, "divergence": kl}

    def passes_per_image(self) -> float:
        return super().passes_per_image() + TRAINING_PASSES + 1  # clean images, and their targets


class MART(PGDAT):
    """Boosted cross-entropy on attacked images plus a divergence weighted by the doubt in the clean ones.

    Source:
        Wang et al. 2020. What differs: the attack starts uniformly in the ball (there: Gaussian of 1e-3).
    """

    options: MARTOptions

    def loss(self, images: Tensor, attacked: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, bce, kl = mart_loss(
            self.network(images), self.network(attacked), labels, self.options.beta, self.class_weights
        )
        return loss, {"bce": bce, "divergence": kl}

    def passes_per_image(self) -> float:
        return super().passes_per_image() + TRAINING_PASSES


# -- how fast the boundary moves, for any method -------------------------------------------------------------


def speed_batch(method: Method) -> tuple[Tensor, Tensor]:
    """Return the first `speed_images` training images and labels: the same ones in every epoch and arm."""
    options: Any = method.options
    data = method.context.data.labelled(Split.TRAIN)
    images = to_unit(to_device(data.images[: options.speed_images], method.device))
    return images, to_device(data.labels[: options.speed_images], method.device)


def speed_report(
    method: Method, images: Tensor, labels: Tensor, loss: Tensor, temperature: float
) -> dict[str, float]:
    """Return how the margins of a batch change along a loss's descent direction.

    Args:
        loss: scalar, of the same images; its graph is used up. The network is left in eval mode.
        temperature: of the soft margin whose boundary is looked for.

    Returns:
        "speed/negative": share whose margin shrinks among the right images with a margin below
        `speed_radius` (0 where there is none); "speed/margin": mean distance of all right images' boundary
        points, pixel units. The direction has norm 1.

    Source:
        Xu et al. 2023 (DyART), section 3 and figure 2: the share is meant to be smaller for DyART.
    """
    options: Any = method.options
    network = method.network
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    direction = [torch.zeros_like(p) if g is None else -g for p, g in zip(parameters, gradients, strict=True)]
    norm = torch.stack([d.norm() for d in direction]).norm().clamp_min(1e-12)
    direction = [d / norm for d in direction]

    def margin(x: Tensor) -> Tensor:
        return soft_margin(network(x), labels, temperature)

    with attack_mode(network):
        boundary: Boundary = closest_boundary(
            margin,
            images,
            steps=SPEED_SEARCH_STEPS,
            epsilon_init=SPEED_EPSILON_INIT,
            generator=method.streams.fresh("speed_search"),
        )
        with torch.no_grad():
            right = (margin(images) > 0) & boundary.found
            speed = relative_speed(network, labels, boundary, temperature, direction)
            near = right & (boundary.distances < options.speed_radius)
            negative = ((speed < 0) & near).sum() / near.sum().clamp_min(1)
            distance = torch.where(right, boundary.distances, 0.0).sum() / right.sum().clamp_min(1)
    return {"speed/negative": float(negative), "speed/margin": float(distance)}
