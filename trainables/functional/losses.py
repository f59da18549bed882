"""Loss terms and scores on logits that several methods share, as pure functions.

Everything here computes in at least float32. None of the operations is one that autocast lowers, so
raising the logits once is enough; energies and margins in bfloat16 would lose the differences they rank by.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def full_precision(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32; float32 and float64 pass through."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the free energy E = -T logsumexp(f / T); higher means more OOD.

    Args:
        logits: (n, classes).
        temperature: T > 0.

    Returns:
        (n,) any real number.

    Source:
        Liu et al. 2020, Energy-based Out-of-distribution Detection, equation 4.

    Example:
        Two logits of 0 at T = 1 give -log 2, at T = 2 give -2 log 2.
    """
    return -temperature * torch.logsumexp(full_precision(logits) / temperature, dim=1)


def uniformity(logits: Tensor) -> Tensor:
    """Return U(z) = logsumexp(z) - mean(z), the cross-entropy of the softmax against the uniform law.

    Args:
        logits: (n, classes).

    Returns:
        (n,) at least log(classes), reached by equal logits. Its gradient is softmax(z) - 1 / classes.

    Source:
        Hendrycks et al. 2019, Deep Anomaly Detection with Outlier Exposure, section 3 (classification). It is
        the mean of the logits, as in the authors' code; texts that write a sum weigh it by the classes.

    Example:
        Logits (log 3, 0) give log 4 - log(3) / 2.
    """
    logits = full_precision(logits)
    return torch.logsumexp(logits, dim=1) - logits.mean(dim=1)


def outlier_exposure(
    logits_in: Tensor,
    labels: Tensor,
    logits_out: Tensor,
    weight: float,
    reduction: str = "separate_means",
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outlier-exposure loss and its two terms.

    separate_means is mean(CE) + weight mean(U). joint_mean divides both sums by the number of all rows: with
    as many outliers as inliers it is half of the other, which amounts to half the learning rate.

    Args:
        logits_in: (n, classes) of inliers.
        labels: (n,) their classes.
        logits_out: (m, classes) of outliers.
        weight: of the outlier term, at least 0.
        reduction: "separate_means" or "joint_mean".
        class_weights: (classes,) of the cross-entropy, whose mean is then the weighted one.

    Returns:
        Scalars (loss, mean cross-entropy of the inliers, mean uniformity of the outliers).

    Raises:
        ValueError: an unknown reduction.

    Source:
        Hendrycks et al. 2019 with weight 0.5 (separate_means); the joint mean is that of the pytorch-ood loss
        which the AOE experiments used.

    Example:
        Zero logits, 2 classes, 1 inlier, 1 outlier, weight 0.5: 1.5 log 2 apart, 0.75 log 2 jointly.
    """
    ce = F.cross_entropy(full_precision(logits_in), labels, class_weights)
    outlier_term = uniformity(logits_out).mean()
    if reduction == "separate_means":
        loss = ce + weight * outlier_term
    elif reduction == "joint_mean":
        n, m = len(logits_in), len(logits_out)
        loss = (n * ce + weight * m * outlier_term) / (n + m)
    else:
        raise ValueError(f"unknown reduction {reduction!r}; known: joint_mean, separate_means")
    return loss, ce, outlier_term


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the label's logit lies above the largest other one; negative where the class is wrong.

    Args:
        logits: (n, classes), at least two classes.
        labels: (n,).

    Returns:
        (n,) z_y - max over j != y of z_j.

    Example:
        Logits (3, 1, 2) give 1 for label 0 and -2 for label 1.
    """
    logits = full_precision(logits)
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own.squeeze(1) - others.amax(dim=1)
