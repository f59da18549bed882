"""Outlier scores on logits: higher = more OOD. Differentiable, row by row, in the dtype of the logits."""

import torch
from torch import Tensor


def msp(logits: Tensor) -> Tensor:
    """Return the maximum softmax probability p as the log-odds against it, log((1 - p) / p).

    This rises strictly with -p, so every ranking and metric is that of -p. In float32, p itself becomes
    exactly 1 from a margin of about 17 on: confident images would tie and have no gradient, which a
    threshold turns into a jump and an attack into a false sense of safety. Log-odds stay exact.

    Args:
        logits: (n, classes), at least two classes.

    Returns:
        (n,) in any real range; 0 at p = 1/2.

    Source:
        Hendrycks & Gimpel 2017; the log-odds form is ours.
    """
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf)
    return others.logsumexp(1) - logits.gather(1, top)[:, 0]


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the free energy -T logsumexp(logits / T), (n,), in units of the logits.

    Source:
        Liu et al. 2020, equation 4.
    """
    return -temperature * (logits / temperature).logsumexp(1)


def max_logit(logits: Tensor) -> Tensor:
    """Return minus the largest logit, (n,) (Hendrycks et al. 2022)."""
    return -logits.amax(1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax in nats, (n,) in [0, log classes]."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
