"""Filter, weights, surrogate and speed: what follows once the boundary is found."""

import math

import pytest
import torch
from torch import nn

from trainables.functional.boundary import (
    Boundary,
    margin_surrogate,
    margin_weights,
    quality_filter,
    relative_speed,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def boundary_of(delta, gradient, margins=None, distances=None):
    delta, gradient = torch.tensor(delta), torch.tensor(gradient)
    n = len(delta)
    return torch.full((n, 1, 1, delta.shape[1]), 0.5), Boundary(
        points=0.5 + delta.view(n, 1, 1, -1),
        gradients=gradient.view(n, 1, 1, -1),
        margins=torch.zeros(n) if margins is None else torch.tensor(margins),
        distances=delta.abs().amax(1) if distances is None else torch.tensor(distances),
    )


def test_quality_filter_golden():
    """Moves of .1 and 0 against gradients; the tests in their order.

    1. all moves oppose the gradient, the idle coordinate is flat: kept; 2. the same at phi = -.31: dropped;
    3. at phi = -.29: kept; 4. one of two long moves follows the gradient: dropped; 5. the idle coordinate has
    a slope of 1: dropped; 6. nothing is idle: kept; 7. not found: dropped.
    """
    good, flat = [0.1, -0.1, 0.0], [-1.0, 1.0, 0.05]
    images, boundary = boundary_of(
        [good] * 5 + [[0.1, -0.1, 0.1]] + [good],
        [flat, flat, flat, [1.0, 1.0, 0.05], [-1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], flat],
        [-0.01, -0.31, -0.29, -0.01, -0.01, -0.01, -0.01],
        [0.1] * 6 + [math.inf],
    )
    assert quality_filter(images, boundary).tolist() == [True, False, True, False, False, True, False]


def test_margin_weights_golden():
    """exp(-alpha R) / ||g||_1: R = .1, alpha = 5, g = (2, -3, 0): e^-.5 / 5. At R = r0 and beyond, 0."""
    _, boundary = boundary_of(
        [[0.1, 0.0, 0.0], [0.4, 0.0, 0.0], [0.39, 0.0, 0.0], [0.1, 0.0, 0.0]],
        [[2.0, -3.0, 0.0], [2.0, -3.0, 0.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]],
    )
    expected = [math.exp(-0.5) / 5, 0.0, math.exp(-1.95) / 4, 0.0]
    assert margin_weights(boundary, 5.0, 0.4).tolist() == pytest.approx(expected, rel=1e-5)
    assert margin_weights(boundary, 0.0, 0.4)[0].item() == pytest.approx(0.2)


def test_surrogate_golden():
    """Weights (.5, 2), margins (-.1, .2), 4 images: -(-.05 + .4) / 4."""
    found = margin_surrogate(torch.tensor([-0.1, 0.2]), torch.tensor([0.5, 2.0]), 4)
    assert found.item() == pytest.approx(-0.0875)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_surrogate_gradient_is_that_of_the_cost_of_the_margins(alpha):
    """For phi = <w, x> + c, R = phi / ||w||_1 and the cost -int exp(-alpha R): autograd against differences.

    The surrogate is evaluated at boundary points that are constants, the differences move them too.
    """
    made = generator(4)
    w = torch.randn(6, generator=made, dtype=torch.float64)
    c = torch.tensor(0.3, dtype=torch.float64)
    images = 0.5 + 0.02 * torch.randn(5, 6, generator=made, dtype=torch.float64)
    c = c - (images @ w).min() + 0.1  # all margins positive and small: no coordinate reaches the box

    def cost(w, c):
        distance = (images @ w + c) / w.abs().sum()
        value = -distance if alpha == 0 else torch.exp(-alpha * distance) / alpha
        return value.mean()

    distance = (images @ w + c) / w.abs().sum()
    points = images - distance[:, None] * w.sign()
    assert points.min() > 0
    assert points.max() < 1
    boundary = Boundary(points, w.expand(5, -1), points @ w + c, distance)
    weights = margin_weights(boundary, alpha, 1.0)
    leaf_w, leaf_c = w.clone().requires_grad_(True), c.clone().requires_grad_(True)
    margin_surrogate(points @ leaf_w + leaf_c, weights, 5).backward()
    h = 1e-6
    for i in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[i] = h
        difference = (cost(w + step, c) - cost(w - step, c)) / (2 * h)
        assert leaf_w.grad[i].item() == pytest.approx(difference.item(), abs=1e-8)
    difference = (cost(w, c + h) - cost(w, c - h)) / (2 * h)
    assert leaf_c.grad.item() == pytest.approx(difference.item(), abs=1e-8)


def test_relative_speed_is_the_derivative_of_the_margin():
    """On a linear classifier against finite differences of the true distance R = phi / ||g||_1 (two classes)."""
    made = generator(5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)).double()
    labels = torch.tensor([0, 0, 0])
    w = torch.randn(2, 8, generator=made, dtype=torch.float64)
    images = 0.5 + 0.02 * torch.randn(3, 1, 2, 4, generator=made, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight.copy_(w)
        net[1].bias.copy_(torch.stack([0.2 - 0.5 * (w[0] - w[1]).sum(), torch.zeros((), dtype=w.dtype)]))
    direction = [
        torch.randn(2, 8, generator=made, dtype=w.dtype),
        torch.randn(2, generator=made, dtype=w.dtype),
    ]

    def distances(h):
        weight, bias = net[1].weight + h * direction[0], net[1].bias + h * direction[1]
        logits = images.flatten(1) @ weight.T + bias
        return (logits[:, 0] - logits[:, 1]) / (weight[0] - weight[1]).abs().sum()

    with torch.no_grad():
        g = w[0] - w[1]
        points = images - (distances(0.0)[:, None] * g.sign()).view(3, 1, 2, 4)
        expected = (distances(1e-6) - distances(-1e-6)) / 2e-6
        boundary = Boundary(points, g.view(1, 1, 2, 4).expand(3, 1, 2, 4), torch.zeros(3), distances(0.0))
        found = relative_speed(net, labels, boundary, 5.0, direction)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
