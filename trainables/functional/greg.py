"""Gradient regularisation (GReg): the penalty on the energy's input gradient, and its choice of outliers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.functional.losses import energy

KMEANS_STEPS = 10


def gradient_penalty(
    network: nn.Module,
    inliers: Tensor,
    outliers: Tensor,
    m_in: float,
    m_out: float,
    *,
    mode: str = "clean",
) -> Tensor:
    """Return the mean norm of the energy's gradient over images that are on the right side of their margin.

    P = mean_in 1[E < m_in] ||grad E||_2 + mean_out 1[E > m_out] ||grad E||_2: to first order, what lies near such
    an image then scores alike. Images on the wrong side count as 0; the margin terms still have to move them.
    The result can be differentiated with respect to the weights (a second backward pass).

    Args:
        network: images to logits. Run in eval mode ("clean", so that batch norm does not couple the images,
            and its statistics stay) or as it is ("upstream"); modes are put back.
        inliers: (n, c, h, w) in [0, 1].
        outliers: (m, c, h, w) in [0, 1].
        m_in, m_out: margins, in logits.
        mode: "clean" or "upstream". Upstream differentiates the mean hinge of the joint batch and then averages
            the n + m norms: P / (n + m) where images do not see one another, so that its weight 1 at
            64 + 64 images is 1/128 in clean units.

    Returns:
        A scalar, at least 0, in logits per unit of distance in pixel space.

    Raises:
        ValueError: an unknown mode.

    Source:
        The GReg code (gradient-regularised OOD detection, 2024). What differs: there only upstream exists.

    Example:
        Logits (w x, 0) of one pixel: the slope of the energy is -w p with p = 1 / (1 + exp(-w x)).
    """
    if mode not in ("clean", "upstream"):
        raise ValueError(f"unknown GReg mode {mode!r}; known: clean, upstream")
    n = len(inliers)
    images = torch.cat([inliers, outliers]).detach().requires_grad_(True)
    training = [(module, module.training) for module in network.modules()]
    try:
        if mode == "clean":
            network.eval()
        with torch.enable_grad():
            energies = energy(network(images))
            below, above = energies[:n] < m_in, energies[n:] > m_out
            if mode == "clean":
                total = energies.sum()  # rows are independent: the gradient of each is its own
            else:
                total = -F.relu(m_in - energies[:n]).mean() + F.relu(energies[n:] - m_out).mean()
            (slopes,) = torch.autograd.grad(total, images, create_graph=True)
            # vector_norm gives the gradient 0 at a slope of 0, where a square root would give NaN
            norms: Tensor = torch.linalg.vector_norm(slopes.flatten(1), dim=1)
    finally:
        for module, flag in training:
            module.training = flag
    if mode == "upstream":
        return norms.mean()
    return (norms[:n] * below).mean() + (norms[n:] * above).mean()


def choose_outliers(
    features: Tensor,
    energies: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    clusters: int = 64,
    two_way: bool = False,
    rank_start: float = 0.0,
    rank_end: float = 1.0,
) -> Tensor:
    """Choose varied and informative outliers out of a pool of candidates (GReg+).

    The candidates are ranked by energy and cut to [rank_start, rank_end); k-means groups their directions in
    feature space. Each cluster gives its lowest-energy candidate, the one most like an inlier, and with
    `two_way` also its highest; random candidates fill up what is missing. Nothing is read back from the device.

    Args:
        features: (n, d) of the candidates.
        energies: (n,) of the candidates.
        count: how many to choose, at most as many as remain after the cut.
        generator: on their device; of the first centres and of the fill.
        clusters: how many clusters; at most `count` are made.
        rank_start, rank_end: shares of the ranks, in [0, 1].

    Returns:
        (count,) int64 distinct indices into the pool, in no particular order.

    Raises:
        ValueError: fewer candidates than asked for.

    Source:
        The GReg code. What differs: k-means there is scikit-learn's on the CPU; here ten Lloyd steps on the device.

    Example:
        Two clusters of directions with energies (1, 2) and (3, 4), count 2: candidates 0 and 2.
    """
    n = len(energies)
    start, end = round(rank_start * n), round(rank_end * n)
    if end - start < count:
        raise ValueError(
            f"{max(0, end - start)} of {n} candidates lie within the energy ranks, but {count} are wanted"
        )
    order = torch.argsort(energies, stable=True)[start:end]
    group = kmeans(F.normalize(features[order], dim=1), min(clusters, count), generator)
    kept = len(order)
    rank = torch.arange(kept, device=order.device)
    k = min(clusters, count)
    # candidates are in order of energy: a cluster's first is its lowest; an empty cluster points past the end
    first = torch.full((k,), kept, device=order.device).scatter_reduce_(0, group, rank, "amin")
    priority = torch.zeros(kept + 1, device=order.device)
    if two_way:
        last = torch.full((k,), -1, device=order.device).scatter_reduce_(0, group, rank, "amax")
        priority[last.where(last >= 0, kept)] = 1.0
    priority[first] = 2.0
    fill = torch.rand(kept, generator=generator, device=order.device)
    return order[torch.topk(priority[:kept] + fill, count).indices]


def kmeans(points: Tensor, k: int, generator: torch.Generator, steps: int = KMEANS_STEPS) -> Tensor:
    """Return the cluster of each point after a fixed number of Lloyd steps from k distinct random points.

    A cluster that loses all of its points keeps its centre. No value is read back, so no convergence test.

    Args:
        points: (n, d), n at least k.
        generator: on the points' device.

    Returns:
        (n,) int64 in [0, k).
    """
    start = torch.randperm(len(points), generator=generator, device=points.device)[:k]
    centres = points[start]
    group = _nearest(points, centres)
    for _ in range(steps):
        members = F.one_hot(group, k).to(
            points.dtype
        )  # a matrix product, as index_add is not repeatable on GPUs
        sizes = members.sum(0)[:, None]
        centres = torch.where(sizes > 0, members.T @ points / sizes.clamp_min(1), centres)
        group = _nearest(points, centres)
    return group


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    # |p - c|^2 without the constant |p|^2
    return (centres.square().sum(1) - 2 * points @ centres.T).argmin(1)
