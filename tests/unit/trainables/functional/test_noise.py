"""Exact rescaling, random noises, the parts of a batch and the noise generator, against hand-made numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from trainables.functional.noise import (
    Composition,
    composition,
    draw_sigmas,
    noise_length,
    random_noise,
    rescale,
)
from trainables.networks.noise_generator import NoiseGenerator


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def lengths(images, moved):
    return (moved.double() - images.double()).flatten(1).norm(dim=1)


# -- rescaling ---------------------------------------------------------------------------------------------


def test_rescale_golden_one_clipped():
    """Pixel 0.9 has 0.1 to go and is clipped; the other one goes sqrt(0.5^2 - 0.1^2) = 0.489898."""
    moved = rescale(row(0.9, 0.5), row(1.0, 1.0), 0.5)
    torch.testing.assert_close(moved, row(1.0, 0.5 + math.sqrt(0.24)))


def test_rescale_golden_none_clipped():
    """Noise (3, -4) of length 5 brought to length 0.25: (+0.15, -0.2)."""
    torch.testing.assert_close(rescale(row(0.5, 0.5), row(3.0, -4.0), 0.25), row(0.65, 0.3))


def test_rescale_golden_saturated():
    """All room is (0.1, 0.4), shorter than 0.5: both go to their faces; no noise, no move."""
    moved = rescale(row(0.9, 0.4, 0.7), row(1e-3, -1e-3, 0.0), 0.5)
    torch.testing.assert_close(moved, row(1.0, 0.0, 0.7), rtol=0, atol=0)


def test_rescale_golden_gradient():
    """With one clipped pixel, x2 = d2 sqrt(T / q), q = d2^2 + d3^2, T = 0.24: dx2/dd2 = sqrt(T) d3^2 / q^1.5.

    For d = (1, 1, 2): sqrt(0.24) * 4 / 5^1.5 = 0.175271; dx2/dd3 = -sqrt(T) d2 d3 / q^1.5 = -0.0876356;
    nothing depends on the clipped one.
    """
    noise = row(1.0, 1.0, 2.0).requires_grad_(True)
    rescale(row(0.9, 0.5, 0.5), noise, 0.5)[..., 1].sum().backward()
    torch.testing.assert_close(noise.grad, row(0.0, 0.17527122, -0.08763561), rtol=1e-6, atol=1e-8)


def reference(image, noise, l2):
    """Bisect the scale in float64, the other way that the specification names."""
    image, noise = image.double().numpy(), noise.double().numpy()
    low, high = 0.0, 1e12
    for _ in range(300):
        middle = (low + high) / 2
        moved = np.clip(image + middle * noise, 0, 1)
        low, high = (middle, high) if np.linalg.norm(moved - image) < l2 else (low, middle)
    return torch.from_numpy(np.clip(image + high * noise, 0, 1))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["uniform", "binary", "digits"]),
    share=st.floats(0.001, 0.98),
    tail=st.sampled_from([0.0, 3.0]),
    scale=st.sampled_from([1e-18, 1e-3, 1.0, 1e12]),
)
def test_rescale_has_the_exact_length(seed, kind, share, tail, scale):
    """Within 1e-5 of any length up to 98 % of the room, also from pixels at 0 and 1 and with heavy tails."""
    images = torch.rand(5, 3, 4, 4, generator=stream(seed))
    if kind == "binary":
        images = images.round()
    elif kind == "digits":
        images = (2 * images - 0.8).clamp(0, 1)
    noise = torch.randn(images.shape, generator=stream(seed + 1))
    noise = scale * noise * torch.exp(tail * torch.randn(images.shape, generator=stream(seed + 2)))
    room = torch.where(noise >= 0, 1 - images, images).double().flatten(1).norm(dim=1)
    before = images.clone(), noise.clone()
    moved = rescale(images, noise, (share * room).float())
    torch.testing.assert_close(lengths(images, moved), share * room, rtol=1e-5, atol=1e-6)
    assert moved.dtype == torch.float32
    assert 0 <= moved.min() <= moved.max() <= 1
    assert torch.equal(images, before[0])
    assert torch.equal(noise, before[1])


@pytest.mark.parametrize("l2", [0.05, 0.7, 1.9, 3.0])
def test_rescale_agrees_with_a_bisection(l2):
    images = torch.rand(6, 1, 4, 4, generator=stream(1)).mul(1.6).sub(0.3).clamp(0, 1)
    noise = torch.randn(images.shape, generator=stream(2)) ** 3
    moved = rescale(images, noise, l2).double()
    expected = torch.stack([reference(x, d, l2) for x, d in zip(images, noise, strict=True)])
    torch.testing.assert_close(moved, expected, rtol=0, atol=2e-6)


def test_rescale_takes_a_length_for_each_image():
    images = torch.full((3, 1, 4, 4), 0.5)
    noise = torch.randn(images.shape, generator=stream())
    wanted = torch.tensor([0.0, 0.5, 1.5])
    torch.testing.assert_close(
        lengths(images, rescale(images, noise, wanted)), wanted.double(), rtol=1e-6, atol=0
    )


def test_rescale_does_not_depend_on_the_scale_of_the_noise():
    images, noise = torch.rand(4, 1, 4, 4, generator=stream()), torch.randn(4, 1, 4, 4, generator=stream(1))
    torch.testing.assert_close(
        rescale(images, 1e-25 * noise.double(), 1.0), rescale(images, noise.double(), 1.0)
    )


def test_rescale_is_float32_for_half_precision():
    images = torch.rand(2, 1, 4, 4, generator=stream()).bfloat16()
    noise = torch.randn(2, 1, 4, 4, generator=stream()).bfloat16()
    moved = rescale(images, noise, 1.0)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(lengths(images, moved), torch.ones(2).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("l2", [0.3, 1.0, 2.0])
def test_rescale_gradient_float64(l2):
    images = torch.rand(3, 1, 3, 3, generator=stream(), dtype=torch.float64)
    images[0] = images[0].round()
    noise = torch.randn(3, 1, 3, 3, generator=stream(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: rescale(images, d, l2), noise)


def test_rescale_gradient_is_finite_at_the_edges():
    """Saturated images, images of zero noise, length 0, and pixels without room in their direction."""
    images = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5)])
    for values in (torch.ones_like(images), -torch.ones_like(images), torch.zeros_like(images)):
        for l2 in (0.0, 0.5, 100.0):
            noise = values.clone().requires_grad_(True)
            moved = rescale(images, noise, l2)
            moved.square().sum().backward()
            assert torch.isfinite(moved).all()
            assert torch.isfinite(noise.grad).all()


def test_noise_length_golden():
    """0.348 per value of a 3 x 224 x 224 image is upstream's 135; an explicit length goes first."""
    assert noise_length((1, 8, 8), 0.3) == pytest.approx(2.4)
    assert noise_length((3, 224, 224), 0.348) == pytest.approx(135.0, abs=0.05)
    assert noise_length((3, 32, 32), 0.348) == pytest.approx(19.288, abs=1e-3)
    assert noise_length((1, 8, 8), 0.3, 1.5) == 1.5


# -- random noises -----------------------------------------------------------------------------------------


def test_gaussian_noise_is_clipped_noise_of_sigma():
    images = torch.full((2000, 1, 4, 4), 0.5)
    noisy = random_noise(images, stream(), sigma=0.05)
    assert (noisy - images).std().item() == pytest.approx(0.05, rel=0.03)
    raw = torch.randn(images.shape, generator=stream())
    torch.testing.assert_close(noisy, (images + 0.05 * raw).clamp(0, 1), rtol=0, atol=0)
    assert torch.equal(images, torch.full((2000, 1, 4, 4), 0.5))
    assert random_noise(images, stream(), sigma=3.0).unique()[[0, -1]].tolist() == [0.0, 1.0]


def test_speckle_noise_leaves_black_black_and_scales_with_the_image():
    images = torch.tensor([0.0, 0.2, 0.4]).repeat(4000, 1).view(4000, 1, 1, 3)
    change = (random_noise(images, stream(), sigma=0.1, multiply=True) - images).flatten(1)
    torch.testing.assert_close(change.std(0), torch.tensor([0.0, 0.02, 0.04]), rtol=0.05, atol=0)


def test_noise_of_several_sigmas_has_each_images_own():
    images = torch.full((3, 1, 40, 40), 0.5)
    change = random_noise(images, stream(), sigma=torch.tensor([0.0, 0.02, 0.08])) - images
    torch.testing.assert_close(change.flatten(1).std(1), torch.tensor([0.0, 0.02, 0.08]), rtol=0.05, atol=0)


@pytest.mark.parametrize("multiply", [False, True])
def test_random_noise_of_exact_length(multiply):
    images = torch.rand(20, 1, 8, 8, generator=stream(3)).clamp_min(0.05)
    noisy = random_noise(images, stream(), sigma=9.0, multiply=multiply, l2=1.2)
    torch.testing.assert_close(lengths(images, noisy), torch.full((20,), 1.2).double(), rtol=1e-5, atol=0)


def test_sigmas_are_drawn_evenly():
    sigmas = torch.tensor([0.1, 0.2, 0.4])
    drawn = draw_sigmas(sigmas, 3000, stream())
    counts = [(drawn == sigma).sum().item() for sigma in sigmas]
    assert sum(counts) == 3000
    assert all(abs(count - 1000) < 100 for count in counts)


# -- the parts of a batch ----------------------------------------------------------------------------------


def test_composition_golden():
    assert composition(70, 0.5, 0.3, 0.1) == Composition(21, (7, 7), 35)  # upstream's own setting
    assert composition(70, 0.3, 0.3, 0.1) == Composition(21, (7, 7, 7, 7), 21)  # its rule stops at 30 % noisy
    assert composition(70, 0.7, 0.3, 0.1) == Composition(21, (), 49)  # and goes on to 70 % here
    assert composition(70, 0.5, 0.15, 0.15) == Composition(11, (11, 11, 2), 35)
    assert composition(64, 0.8, 0.3, 0.1) == Composition(13, (), 51)
    assert composition(10, 1.0, 0.3, 0.1) == Composition(0, (), 10)
    assert composition(10, 0.0, 0.0, 0.0) == Composition(0, (1,) * 10, 0)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_composition_adds_up(count, p_clean, p_current, p_history):
    parts = composition(count, p_clean, p_current, p_history)
    assert parts.noisy + parts.clean == count
    assert min(parts.current, parts.clean, *parts.history, 1) >= 0
    assert abs(parts.clean - p_clean * count) <= 0.5 + 1e-6
    assert abs(parts.current - min(p_current * count, count - parts.clean)) <= 0.5 + 1e-6
    assert all(abs(chunk - max(1, p_history * count)) <= 0.5 + 1e-6 for chunk in parts.history[:-1])


# -- the generator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["1x1", "3x3"])
def test_first_noise_is_almost_the_gaussian_seed(kind):
    generator = NoiseGenerator(3, 1.0, stream(), kind=kind)
    seeds = generator.seeds(torch.zeros(50, 3, 8, 8), stream(1))
    b = generator.border
    with torch.no_grad():
        difference = generator(seeds) - seeds[:, :, b : 8 + b, b : 8 + b]
    assert difference.shape == (50, 3, 8, 8)
    assert difference.std() < 0.05
    assert difference.abs().max() < 0.05


@pytest.mark.parametrize("kind", ["1x1", "3x3"])
def test_generator_is_four_convolutions_and_a_skip(kind):
    generator = NoiseGenerator(3, 1.0, stream(), kind=kind, width=5)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_(generator=stream(parameter.numel()))
    seeds = generator.seeds(torch.zeros(4, 3, 6, 7), stream(1))
    hidden = seeds
    for layer in generator.layers[:-1]:
        hidden = F.conv2d(hidden, layer.weight, layer.bias).relu()
    last = generator.layers[-1]
    centre = seeds[:, :, 1:-1, 1:-1] if kind == "3x3" else seeds
    expected = F.conv2d(hidden, last.weight, last.bias) + centre
    torch.testing.assert_close(generator(seeds), expected, rtol=1e-4, atol=1e-4)


def test_generator_sizes_golden():
    """1x1, 3 channels: 80 + 420 + 420 + 63 = 983; the 3x3 one has 8 * 400 = 3200 more. Both store l2."""
    for kind, expected in (("1x1", 983), ("3x3", 4183)):
        generator = NoiseGenerator(3, 2.5, stream(), kind=kind)
        assert sum(p.numel() for p in generator.parameters()) == expected
        assert generator.state_dict()["l2"].item() == 2.5


def test_only_the_3x3_noise_is_correlated_in_space():
    for kind, correlated in (("1x1", False), ("3x3", True)):
        generator = NoiseGenerator(1, 1.0, stream(), kind=kind)
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.abs_().mul_(30)
            noise = generator(generator.seeds(torch.zeros(400, 1, 8, 8), stream(1)))
        left, right = noise[..., :-1].flatten(), noise[..., 1:].flatten()
        found = torch.corrcoef(torch.stack([left, right]))[0, 1].item()
        assert (abs(found) > 0.3) is correlated
        assert correlated or abs(found) < 0.03


def test_weights_come_from_the_given_stream_alone():
    before = torch.get_rng_state()
    first, same, other = (NoiseGenerator(1, 1.0, stream(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.layers[1].weight, same.layers[1].weight)
    assert not torch.equal(first.layers[1].weight, other.layers[1].weight)
    assert first.layers[1].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert all(not layer.bias.any() for layer in first.layers)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="5x5"):
        NoiseGenerator(1, 1.0, stream(), kind="5x5")
