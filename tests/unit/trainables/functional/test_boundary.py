"""Soft margin, projection, boundary search, filter, weights and speed against worked and reference values."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from trainables.functional import boundary as module
from trainables.functional.boundary import (
    closest_boundary,
    margin_surrogate,
    margin_weights,
    project_linf,
    quality_filter,
    soft_margin,
)
from trainables.functional.losses import margin

SEARCHES = ["sequential", "fab", "fab_onepass"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def curved_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()


def images_inside(net, count, temperature):
    """Return images and labels of positive soft margin, as the search expects them.

    From the other side of the boundary FAB amplifies rounding: what it finds differs from one CPU to the next.
    """
    images = torch.rand(100 * count, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    labels = net(images).argmax(1)
    inside = torch.nonzero(soft_margin(net(images), labels, temperature) > 1e-3)[:count, 0]
    assert len(inside) == count
    return images[inside], labels[inside]


# -- soft margin -------------------------------------------------------------------------------------------


def test_soft_margin_golden():
    """Logits (3, 1, 1), b = 2: label 0 gives 2 - log(2)/2; label 1 gives 1 - log(e^6 + e^2)/2."""
    logits = torch.tensor([[3.0, 1.0, 1.0]], dtype=torch.float64).repeat(2, 1)
    found = soft_margin(logits, torch.tensor([0, 1]), 2.0)
    expected = [2 - math.log(2) / 2, 1 - math.log(math.exp(6) + math.exp(2)) / 2]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 5.0, 30.0])
def test_soft_margin_bounds_the_margin(temperature):
    """phi <= margin <= phi + log(classes - 1) / b; with two classes all three are equal."""
    logits = 4 * torch.randn(200, 7, generator=generator(), dtype=torch.float64)
    labels = torch.arange(200) % 7
    gap = margin(logits, labels) - soft_margin(logits, labels, temperature)
    assert gap.min() >= -1e-12
    assert gap.max() <= math.log(6) / temperature + 1e-12
    pair = logits[:, :2]
    torch.testing.assert_close(soft_margin(pair, labels % 2, temperature), margin(pair, labels % 2))


def test_equal_rivals_reach_the_bound():
    """Seven equal rivals: the gap is exactly log(7) / b."""
    logits = torch.zeros(1, 8, dtype=torch.float64)
    gap = margin(logits, torch.tensor([3])) - soft_margin(logits, torch.tensor([3]), 5.0)
    assert gap.item() == pytest.approx(math.log(7) / 5, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_margin_does_not_overflow(dtype):
    """At logits of 1e4 and b = 30, exp would see 3e5; the values and gradients stay finite."""
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    phi = soft_margin(logits, torch.tensor([0, 0]), 30.0)
    phi.sum().backward()
    assert phi.dtype == torch.float32
    assert phi[0].item() == pytest.approx(1e4, rel=1e-2)
    assert phi[1].item() == pytest.approx(-2e4, rel=1e-2)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].float().tolist() == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)


# -- projection --------------------------------------------------------------------------------------------


def reference_projection(x, g, residual):
    """Return the smallest Linf length by linear programming, or None where the box misses the hyperplane."""
    d = len(x)
    bound = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
    solved = linprog(
        np.append(np.zeros(d), 1.0),
        A_ub=bound,
        b_ub=np.zeros(2 * d),
        A_eq=np.append(g, 0.0)[None],
        b_eq=[-residual],
        bounds=[(-v, 1 - v) for v in x] + [(0, None)],
    )
    return solved.fun if solved.status == 0 else None


@pytest.mark.parametrize("d", [1, 2, 5, 12])
def test_projection_is_the_optimum_of_a_linear_program(d):
    n, made = 25, generator(d)
    x = torch.rand(n, d, generator=made, dtype=torch.float64)
    x = torch.where(x < 0.2, 0.0, torch.where(x > 0.9, 1.0, x))  # pixels at the faces of the box
    g = torch.randn(n, d, generator=made, dtype=torch.float64)
    g = torch.where(torch.rand(n, d, generator=made) < 0.15, 0.0, g)
    residual = torch.randn(n, generator=made, dtype=torch.float64) * 0.2 * d
    delta = project_linf(x, g, residual)
    assert (x + delta).min() >= 0
    assert (x + delta).max() <= 1
    reached = 0
    for i in range(n):
        best = reference_projection(x[i].numpy(), g[i].numpy(), residual[i].item())
        if best is None:  # as near as the box allows: every coordinate that matters at its face
            room = torch.where(g[i] * residual[i] > 0, x[i], 1 - x[i])
            torch.testing.assert_close(delta[i].abs(), torch.where(g[i] == 0, 0.0, room))
        else:
            reached += 1
            assert (g[i] @ delta[i]).item() == pytest.approx(-residual[i].item(), abs=1e-9)
            assert delta[i].abs().max().item() == pytest.approx(best, abs=1e-9)
    assert reached >= 5


def test_projection_stays_exact_in_float32():
    """3,072 coordinates, a third of them stuck: the hyperplane is reached within 1e-4 of the residual."""
    made = generator(6)
    x = torch.rand(4, 3072, generator=made)
    x = torch.where(x < 0.6, x.round(), x)
    g = torch.randn(4, 3072, generator=made)
    residual = torch.tensor([7.0, -70.0, 400.0, 1e-3])
    delta = project_linf(x, g, residual)
    torch.testing.assert_close((g.double() * delta.double()).sum(1).float(), -residual, rtol=1e-4, atol=1e-6)


def test_projection_golden():
    """x = (.5, .9), g = (1, -1).

    Residual 1: .5 and .1 of room give .6 < 1, out of reach: (-.5, .1). Residual .3: the second stops at .1,
    the first goes on to .2. Residual -.3 goes the other way, .15 each.
    """
    x, g = torch.tensor([[0.5, 0.9]]).repeat(3, 1), torch.tensor([[1.0, -1.0]]).repeat(3, 1)
    found = project_linf(x, g, torch.tensor([1.0, 0.3, -0.3]))
    expected = torch.tensor([[-0.5, 0.1], [-0.2, 0.1], [0.15, -0.15]])
    torch.testing.assert_close(found, expected)


def test_projection_of_degenerate_rows():
    """No gradient or no residual: nothing moves, and nothing becomes NaN."""
    x = torch.tensor([[0.3, 0.6], [0.3, 0.6], [0.0, 1.0]])
    g = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, -1.0]])
    found = project_linf(x, g, torch.tensor([1.0, 0.0, 1.0]))
    assert found.tolist() == [[0.0, 0.0]] * 3


# -- search ------------------------------------------------------------------------------------------------


CASES = [
    ("sequential", 4, 0.1),
    ("sequential", 768, 0.1),
    ("sequential", 768, 0.001),
    ("fab", 4, 0.1),
    ("fab", 768, 0.1),
    ("fab_onepass", 4, 0.1),
    ("fab_onepass", 768, 0.1),
]


@pytest.mark.parametrize(("search", "dimension", "truth"), CASES)
def test_search_on_a_linear_margin(search, dimension, truth):
    """phi = <w, x - .5> + truth ||w||_1: the found point is at most 5 % farther than the truth and phi <= 0."""
    w = torch.randn(dimension, generator=generator(), dtype=torch.float64)
    images = torch.full((3, 1, 1, dimension), 0.5, dtype=torch.float64)

    def phi(x):
        return (x - 0.5).flatten(1) @ w + truth * w.abs().sum()

    found = closest_boundary(phi, images, search=search, steps=20, epsilon_init=0.03, generator=generator())
    assert found.found.all()
    assert (found.margins <= 0).all()
    assert (found.distances >= truth * (1 - 1e-9)).all()
    assert (found.distances <= truth * 1.05).all()
    torch.testing.assert_close(found.gradients.flatten(1), w.expand(3, -1))
    torch.testing.assert_close(found.margins, phi(found.points))
    torch.testing.assert_close(found.distances, (found.points - images).abs().flatten(1).amax(1))


@pytest.mark.parametrize("search", SEARCHES)
def test_search_on_a_linear_margin_at_the_faces_of_the_box(search):
    """Half of the pixels cannot move outwards: the truth is that of the linear program."""
    w = torch.randn(20, generator=generator(), dtype=torch.float64)
    x = torch.rand(6, 20, generator=generator(3), dtype=torch.float64).round()
    value = x @ w
    level = value - 0.1 * w.abs().sum()

    def phi(images):
        return images.flatten(1) @ w - level

    found = closest_boundary(
        phi, x.view(6, 1, 4, 5), search=search, steps=20, epsilon_init=0.03, generator=generator()
    )
    for i in range(6):
        truth = reference_projection(x[i].numpy(), w.numpy(), (value[i] - level[i]).item())
        assert truth * (1 - 1e-9) <= found.distances[i].item() <= truth * 1.05
    assert (found.points >= 0).all()
    assert (found.points <= 1).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_search_on_a_curved_margin(search):
    """phi = r^2 - ||x - c||^2 with ||x - c|| < r: along the diagonal the distance from c is r / sqrt(d).

    From a point c + a (1, .., 1) it is r / sqrt(d) - a.
    """
    d, radius, a = 16, 0.8, 0.05
    images = torch.full((4, 1, 4, 4), 0.5 + a, dtype=torch.float64)

    def phi(x):
        return radius**2 - ((x - 0.5) ** 2).flatten(1).sum(1)

    found = closest_boundary(phi, images, search=search, steps=20, epsilon_init=0.03, generator=generator())
    truth = radius / math.sqrt(d) - a
    assert (found.distances >= truth * (1 - 1e-9)).all()
    assert (found.distances <= truth * 1.05).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_search_without_a_boundary_in_the_box(search):
    """A margin that is 1 everywhere, or cannot be crossed: infinite distance, the image itself, finite tensors."""
    images = torch.rand(2, 1, 2, 2, generator=generator())
    found = closest_boundary(
        lambda x: 5 + x.flatten(1).sum(1), images, search=search, steps=4, epsilon_init=0.03
    )
    assert not found.found.any()
    assert torch.equal(found.points, images)
    assert torch.isfinite(found.gradients).all()
    assert margin_weights(found, 5.0, 0.4).tolist() == [0.0, 0.0]
    assert not quality_filter(images, found).any()


@pytest.mark.parametrize("search", SEARCHES)
def test_search_of_no_images(search):
    images = torch.zeros(0, 1, 8, 8)
    found = closest_boundary(
        lambda x: x.flatten(1).sum(1), images, search=search, steps=3, epsilon_init=0.03, shared_alpha=True
    )
    assert found.points.shape == images.shape
    assert quality_filter(images, found).shape == (0,)
    assert margin_surrogate(torch.zeros(0), margin_weights(found, 5.0, 0.4), 8).item() == 0


@pytest.mark.parametrize("search", SEARCHES)
def test_each_image_is_searched_on_its_own(search):
    """One image alone and in a batch give the same point: the mixture is per image."""
    net = curved_network()
    images, labels = images_inside(net, 5, 5.0)

    def run(rows, **flags):
        def phi(x):
            return soft_margin(net(x), labels[rows], 5.0)

        # no random start: it would be another one in another batch
        return closest_boundary(phi, images[rows], search=search, steps=6, epsilon_init=0.0, **flags).points

    together = run(torch.arange(5))
    for i in range(5):
        torch.testing.assert_close(run(torch.tensor([i]))[0], together[i])


def test_shared_alpha_gives_every_image_the_first_ones_mixture():
    """The quirk changes the others' points and never those of the first image."""
    net = curved_network()
    images, labels = images_inside(net, 5, 5.0)
    own, shared = (
        closest_boundary(
            lambda x: soft_margin(net(x), labels, 5.0),
            images,
            search="fab",
            steps=6,
            epsilon_init=0.03,
            shared_alpha=flag,
            generator=generator(),
        ).points
        for flag in (False, True)
    )
    torch.testing.assert_close(own[0], shared[0])
    assert not torch.allclose(own[1:], shared[1:])


@pytest.mark.parametrize("search", SEARCHES)
def test_search_costs_what_it_says(search):
    """sequential: one forward with gradient a step. fab: two forwards a step, and the result's gradient.

    fab_onepass: one with gradient at every point, the last one included.
    """
    calls = []

    def phi(x):
        calls.append(x.requires_grad)
        return x.flatten(1).sum(1) - 1

    closest_boundary(phi, torch.full((2, 1, 2, 2), 0.4), search=search, steps=5, epsilon_init=0.03)
    expected = {"sequential": [True] * 5, "fab": [True, False] * 5 + [True], "fab_onepass": [True] * 6}
    assert calls == expected[search]


def test_the_searches_agree_on_a_network():
    """10 sequential steps are on average within 5 % of 60 steps of fab."""
    net = curved_network()
    images, labels = images_inside(net, 64, 20.0)

    def run(search, steps):
        return closest_boundary(
            lambda x: soft_margin(net(x), labels, 20.0),
            images,
            search=search,
            steps=steps,
            epsilon_init=0.03,
            generator=generator(),
        ).distances

    short, long = run("sequential", 10), run("fab", 60)
    assert (short.isfinite() & long.isfinite()).all()
    assert (short / long).mean().item() == pytest.approx(1.0, abs=0.05)


def test_fab_in_one_pass_comes_as_near_as_fab():
    """The mean distance after 20 steps is at most 1 % longer, and every boundary point is found."""
    net = curved_network()
    images, labels = images_inside(net, 64, 20.0)
    plain, merged = (
        closest_boundary(
            lambda x: soft_margin(net(x), labels, 20.0),
            images,
            search=search,
            steps=20,
            epsilon_init=0.03,
            generator=generator(),
        ).distances
        for search in ("fab", "fab_onepass")
    )
    assert (plain.isfinite() & merged.isfinite()).all()
    assert float(merged.mean() / plain.mean()) <= 1.01


def test_unknown_search_is_refused():
    with pytest.raises(ValueError, match="known: sequential, fab, fab_onepass"):
        closest_boundary(lambda x: x.sum(), torch.zeros(1, 1, 2, 2), search="pgd", steps=1, epsilon_init=0.0)


def test_nothing_is_read_back_from_the_device(monkeypatch):
    """Neither the projection nor the search asks a tensor for its value."""

    def refuse(*_):
        raise AssertionError("a tensor was read back")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "nonzero", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    for search in SEARCHES:
        found = module.closest_boundary(
            lambda x: x.flatten(1).sum(1) - 1,
            torch.full((2, 1, 2, 2), 0.4),
            search=search,
            steps=3,
            epsilon_init=0.03,
        )
        module.margin_weights(found, 5.0, 0.4)
        module.quality_filter(torch.full((2, 1, 2, 2), 0.4), found)
