"""Loss terms of Rob-GAN as pure functions; real/fake logits are positive where the discriminator says real."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.functional.losses import full_precision

LOSSES = ("hinge", "bce")


def real_term(critic: Tensor, loss: str) -> Tensor:
    """Return (n,) what taking a real image for fake costs: relu(1 - b) (hinge) or softplus(-b) (bce).

    Raises:
        ValueError: an unknown loss.

    Example:
        b = 0: 1 and log 2. b = 2: 0 and log(1 + e^-2) = 0.1269.
    """
    critic = full_precision(critic)
    return F.relu(1 - critic) if _is_hinge(loss) else F.softplus(-critic)


def fake_term(critic: Tensor, loss: str) -> Tensor:
    """Return (n,) what taking a fake for real costs: relu(1 + b) (hinge) or softplus(b) (bce)."""
    return real_term(-critic, loss)


def fooling_term(critic: Tensor, loss: str) -> Tensor:
    """Return (n,) what a recognised fake costs the generator: -b (hinge) or softplus(-b) (bce, non-saturating)."""
    critic = full_precision(critic)
    return -critic if _is_hinge(loss) else F.softplus(-critic)


def _is_hinge(loss: str) -> bool:
    if loss not in LOSSES:
        raise ValueError(f"unknown GAN loss {loss!r}; known: {', '.join(LOSSES)}")
    return loss == "hinge"


def class_term(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (n,) cross-entropies."""
    return F.cross_entropy(full_precision(logits), labels, reduction="none")


@dataclass(frozen=True)
class Weights:
    """What the terms weigh.

    Attributes:
        real, fake: of the real/fake head on real images and on fakes, in D.
        real_class, fake_class: of the class head on real images and on fakes, in D.
        fool, generator_class: of the real/fake and the class head, in G.
    """

    real: float
    fake: float
    real_class: float
    fake_class: float
    fool: float
    generator_class: float


def weights(loss: str, fake_cls_in_d: bool, w_c: float = 1.0, w_g: float = 1.0) -> Weights:
    """Return the weights of the terms.

    bce is Rob-GAN's: halves everywhere, but the fake term weighs 1 if the discriminator does not learn the
    classes of fakes ("our loss") and 1/2 if it does (AC-GAN). hinge gives the real/fake head 1 everywhere.

    Args:
        fake_cls_in_d: the discriminator learns the classes of fakes too.
        w_c, w_g: factors on the class head in D and in G.

    Example:
        bce, off: real 0.5, fake 1, real_class 0.5, fake_class 0, fool 0.5, generator_class 0.5.
    """
    if loss == "hinge":
        return Weights(1.0, 1.0, w_c, w_c if fake_cls_in_d else 0.0, 1.0, w_g)
    fake, fake_class = (0.5, 0.5 * w_c) if fake_cls_in_d else (1.0, 0.0)
    return Weights(0.5, fake, 0.5 * w_c, fake_class, 0.5, 0.5 * w_g)


def attack_objective(critic: Tensor, logits: Tensor, labels: Tensor, loss: str, weigh: Weights) -> Tensor:
    """Return A, (n,): what the attacker of the joint phase ascends, the real half of D's loss.

    Args:
        critic: (n,) real/fake logits, logits: (n, classes) of real images.

    Source:
        Liu & Hsieh 2019: A = lambda BCE(b, 1) + (1 - lambda) CE(c, y) with lambda = 1/2.
    """
    return weigh.real * real_term(critic, loss) + weigh.real_class * class_term(logits, labels)


def discriminator_loss(
    real: tuple[Tensor, Tensor, Tensor], fake: tuple[Tensor, Tensor, Tensor], loss: str, weigh: Weights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return L_D and its unweighted terms as batch means.

    Args:
        real: real/fake logits (n,), class logits (n, classes) and classes (n,) of attacked real images.
        fake: the same of fakes.

    Returns:
        (scalar, {"real", "fake", "ce_real", "ce_fake"}). Without a weight on the classes of fakes, the class
        logits of fakes get no gradient at all.

    Example:
        All logits 0, 4 classes, bce, our loss: 0.5 log 2 + log 2 + 0.5 log 4 = 2.5 log 2.
    """
    terms = {
        "real": real_term(real[0], loss).mean(),
        "fake": fake_term(fake[0], loss).mean(),
        "ce_real": class_term(real[1], real[2]).mean(),
        "ce_fake": class_term(fake[1] if weigh.fake_class else fake[1].detach(), fake[2]).mean(),
    }
    total = weigh.real * terms["real"] + weigh.fake * terms["fake"] + weigh.real_class * terms["ce_real"]
    if weigh.fake_class:
        total = total + weigh.fake_class * terms["ce_fake"]
    return total, terms


def generator_loss(critic: Tensor, logits: Tensor, labels: Tensor, loss: str, weigh: Weights) -> Tensor:
    """Return L_G, a scalar, from the heads on fakes (n,), (n, classes) and the classes asked for (n,).

    Example:
        All logits 0, 4 classes, bce: 0.5 log 2 + 0.5 log 4 = 1.5 log 2; hinge with w_g = 1: log 4.
    """
    fooled = fooling_term(critic, loss).mean()
    return weigh.fool * fooled + weigh.generator_class * class_term(logits, labels).mean()


def r1_penalty(critic: Tensor, images: Tensor) -> Tensor:
    """Return half the mean squared gradient norm of the real/fake logit at real images in [-1, 1] units.

    Args:
        critic: (n,) logits with a graph back to the images.
        images: (n, c, h, w) in [0, 1] that ask for a gradient.

    Returns:
        Scalar with a graph to the weights, not yet weighed by gamma.

    Source:
        Mescheder et al. 2018, equation 9 without gamma.

    Example:
        b(x) = sum over 3 pixels of 2 (2 x - 1): the gradient to 2 x - 1 is 2 in each, so 3 * 4 / 2 = 6.
    """
    (gradient,) = torch.autograd.grad(critic.sum(), images, create_graph=True)
    # the network sees 2 x - 1, so a gradient to x is twice that to what it sees
    return (gradient / 2).square().flatten(1).sum(1).mean() / 2


def finetune_loss(
    real_logits: Tensor, labels: Tensor, fake_logits: Tensor, fake_labels: Tensor, lambda_f: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the second phase's loss CE(real) + lambda_f CE(fake) and its terms; without fakes CE(real) alone.

    Args:
        real_logits: (n, classes), labels: (n,).
        fake_logits: (m, classes), fake_labels: (m,); m may be 0.

    Example:
        Zero logits of 4 classes, lambda_f 0.5: 1.5 log 4.
    """
    terms = {"ce_real": class_term(real_logits, labels).mean()}
    total = terms["ce_real"]
    if len(fake_labels):
        terms["ce_fake"] = class_term(fake_logits, fake_labels).mean()
        total = total + lambda_f * terms["ce_fake"]
    return total, terms
