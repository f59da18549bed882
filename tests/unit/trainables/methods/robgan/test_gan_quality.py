"""Measures of generated images by hand, the judge, each collapse guard, the sample grid."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from trainables.methods.robgan import gan_quality as quality
from trainables.options.robgan import GuardOptions


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_mean_pairwise_distance_golden():
    """Points 0, 3, 6: distances 3, 6, 3."""
    assert quality.mean_pairwise_distance(column(0, 3, 6)) == pytest.approx(4.0)


def test_diversity_golden_and_its_ends():
    """Half the spread is 0.5; one image repeated is 0; the reals themselves are 1."""
    reals = torch.rand(20, 1, 8, 8)
    assert quality.diversity(0.5 * reals, reals) == pytest.approx(0.5, rel=1e-5)
    assert quality.diversity(reals[:1].expand(20, -1, -1, -1), reals) == 0.0
    assert quality.diversity(reals, reals) == 1.0


def test_pixel_deviation_golden():
    """A pixel that is 0 and 1 equally often deviates by 1/2, by 1 in [-1, 1]; a constant one by 0; mean 1/2."""
    images = torch.tensor([[0.0, 0.3], [1.0, 0.3]]).view(2, 1, 1, 2)
    assert quality.pixel_deviation(images) == pytest.approx(0.5)


def test_frechet_golden_in_one_dimension():
    """Means 1, 7; variances 2, 8: 36 + 2 + 8 - 2 sqrt(16) = 38."""
    assert quality.frechet_distance(column(0, 2), column(5, 9)) == pytest.approx(38.0)


def test_frechet_equals_the_matrix_square_root():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(30, 5)) + 1
    s, t = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    found = quality.frechet_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert found == pytest.approx(expected, rel=1e-9)
    assert quality.frechet_distance(torch.from_numpy(y), torch.from_numpy(x)) == pytest.approx(found)


def test_frechet_of_a_set_with_itself_is_zero_and_a_shift_adds_its_square():
    """More dimensions than images make singular covariances; a shift by d adds |d|^2 = 6 * 4."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert quality.frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert quality.frechet_distance(x, x + 2) == pytest.approx(24.0)


def test_density_and_coverage_golden():
    """Reals 0, 1, 3, k = 1: radii 1, 1, 2. 0.5 lies in the balls of 0 and 1; 10 in none."""
    density, coverage = quality.density_coverage(column(0, 1, 3), column(0.5, 10), k=1)
    assert density == pytest.approx((2 + 0) / 2)
    assert coverage == pytest.approx(2 / 3)


def test_one_mode_is_dense_but_covers_little_and_copies_cover_all():
    reals = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    assert quality.density_coverage(reals, reals)[1] == 1.0
    one = reals.mean(0, keepdim=True).expand(100, -1)
    density, coverage = quality.density_coverage(reals, one)
    assert density > 1
    assert coverage < 0.3


class Threshold(nn.Module):
    """Says class 1 where the mean pixel exceeds 1/2; its feature is the mean pixel."""

    def features(self, x):
        return x.mean(dim=(1, 2, 3))[:, None]

    def forward(self, x):
        mean = self.features(x)
        return torch.cat([0.5 - mean, mean - 0.5], 1)


def test_the_judge_counts_the_classes_asked_for():
    """Four fakes, means .1 .9 .2 .8, asked for 0 1 1 1: three right."""
    fakes = torch.tensor([0.1, 0.9, 0.2, 0.8]).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    reals = torch.linspace(0, 1, 12).view(12, 1, 1, 1).expand(12, 1, 8, 8)
    network = Threshold().train()
    found = quality.judge(network, fakes, torch.tensor([0, 1, 1, 1]), reals)
    assert network.training
    assert found["judge_accuracy"] == 0.75
    assert found["diversity"] == pytest.approx(quality.diversity(fakes, reals))
    assert set(found) == {"judge_accuracy", "judge_density", "judge_coverage", "judge_frechet", "diversity"}


HEALTHY = quality.Signs(pixel_std=0.5, diversity=0.8, won_steps=0, logit_size=1.0, gradient_norm=1.0)
#: The bounds of the specification: 0.05, 25 %, more than 500 steps, 20, 1e-5; each on either side of its bound.
EDGES = [
    ("pixel_std", 0.05, 0.049, "pixels of fakes deviate"),
    ("diversity", 0.25, 0.249, "as far apart as reals"),
    ("won_steps", 500, 501, "discriminator was right"),
    ("logit_size", 20.0, 20.1, "real/fake logit"),
    ("gradient_norm", 1e-5, 9e-6, "gradient has norm"),
]


@pytest.mark.parametrize(("sign", "allowed", "fires", "reason"), EDGES)
def test_each_guard_fires_beyond_its_bound_only(sign, allowed, fires, reason):
    options = GuardOptions()
    assert quality.collapse(HEALTHY, options) == ""
    assert quality.collapse(replace(HEALTHY, **{sign: allowed}), options) == ""
    assert reason in quality.collapse(replace(HEALTHY, **{sign: fires}), options)


def test_constant_images_fire_the_two_guards_on_samples():
    grey, reals = torch.full((16, 1, 8, 8), 0.5), torch.rand(16, 1, 8, 8)
    signs = replace(
        HEALTHY, pixel_std=quality.pixel_deviation(grey), diversity=quality.diversity(grey, reals)
    )
    reasons = quality.collapse(signs, GuardOptions()).split("; ")
    assert len(reasons) == 2


def test_a_generator_without_steps_has_no_vanished_gradient():
    assert quality.vanished_gradient(math.inf, 1e-5) == ""


def test_grid_places_images_row_by_row():
    """Two columns of 2x2 images with a line of one pixel: 4 images make 7x7."""
    images = torch.tensor([0.0, 1.0, 0.2, 0.6]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    grid = quality.image_grid(images, 2)
    assert grid.shape == (7, 7)
    assert [grid[1, 1], grid[1, 4], grid[4, 1], grid[4, 4]] == [0, 255, 51, 153]
    assert (grid[0] == 128).all()
    assert quality.image_grid(images.expand(4, 3, 2, 2), 4).shape == (4, 13, 3)


def test_png_reads_back():
    from PIL import Image

    grid = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.open(io.BytesIO(quality.png_bytes(grid, scale=2)))
    assert np.array_equal(np.asarray(image)[::2, ::2], grid)
