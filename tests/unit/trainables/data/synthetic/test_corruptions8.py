"""Corruptions of 8x8 images: ranges, strengths, and what each must leave alone."""

import itertools

import numpy as np
import pytest

from trainables.data.synthetic import corruptions8 as c8

ALL = {
    **{f"test {k}": v for k, v in c8.CORRUPTIONS.items()},
    **{f"hold-out {k}": v for k, v in c8.HOLD_OUT.items()},
}


def rng() -> np.random.RandomState:
    return np.random.RandomState(0)


@pytest.fixture
def images() -> np.ndarray:
    return rng().random_sample((200, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
def test_contract(name: str, images: np.ndarray) -> None:
    function, strengths = ALL[name]
    before = images.copy()
    assert len(strengths) == 5
    for strength in strengths:
        out = function(images, strength, rng())
        assert (out.shape, out.dtype) == (images.shape, np.float32)
        assert out.min() >= 0
        assert out.max() <= 1
        np.testing.assert_array_equal(out, function(images, strength, rng()))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", ALL)
def test_every_severity_distorts_more_than_the_one_before(name: str, images: np.ndarray) -> None:
    function, strengths = ALL[name]
    smooth = c8.gaussian_blur(images, 1.0, rng())  # a smooth image: on white noise a shift saturates at once
    errors = [float(((function(smooth, s, rng()) - smooth) ** 2).mean()) for s in strengths]
    # 5 x 5 cells of 8 pixels blur hardly more than 6 x 6 ones
    assert all(later > 0.95 * earlier for earlier, later in itertools.pairwise(errors))
    assert errors[0] < 0.7 * errors[-1]


def test_hold_out_strengths_are_not_tested() -> None:
    for name, (_, strengths) in c8.HOLD_OUT.items():
        if name in c8.CORRUPTIONS:
            assert not set(strengths) & set(c8.CORRUPTIONS[name][1])


def test_gaussian_noise_has_its_standard_deviation() -> None:
    grey = np.full((500, 1, 8, 8), 0.5, np.float32)
    assert (c8.gaussian_noise(grey, 0.1, rng()) - 0.5).std() == pytest.approx(0.1, rel=0.02)


def test_shot_noise_has_poisson_variance() -> None:
    grey = np.full((500, 1, 8, 8), 0.5, np.float32)
    out = c8.shot_noise(grey, 30.0, rng())
    assert out.mean() == pytest.approx(0.5, rel=0.01)
    assert out.var() == pytest.approx(0.5 / 30, rel=0.03)


def test_impulse_noise_hits_its_share_and_leaves_the_rest() -> None:
    grey = np.full((500, 1, 8, 8), 0.5, np.float32)
    out = c8.impulse_noise(grey, 0.2, rng())
    assert set(np.unique(out)) == {0.0, 0.5, 1.0}
    assert (out == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (out == 1).mean() == pytest.approx(0.1, abs=0.01)


def test_speckle_leaves_black_black() -> None:
    assert not c8.speckle_noise(np.zeros((3, 1, 8, 8), np.float32), 1.0, rng()).any()


def test_brightness_and_contrast_by_hand() -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[..., :4] = 0.8  # mean 0.4
    assert np.unique(c8.brightness(image, 0.3, rng())) == pytest.approx([0.3, 1.0])
    assert np.unique(c8.contrast(image, 0.5, rng())) == pytest.approx([0.2, 0.6])


def test_pixelate_by_hand(images: np.ndarray) -> None:
    out = c8.pixelate(images, 4, rng())
    means = images.reshape(-1, 1, 4, 2, 4, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(out, np.kron(means, np.ones((2, 2))), atol=1e-6)
    np.testing.assert_array_equal(c8.pixelate(images, 8, rng()), images)


def test_blur_of_a_point_is_a_normalised_gaussian() -> None:
    point = np.zeros((1, 1, 8, 8), np.float32)
    point[0, 0, 4, 4] = 1
    out = c8.gaussian_blur(point, 0.6, rng())[0, 0]
    assert out.sum() == pytest.approx(1, abs=1e-5)
    assert out[4, 5] / out[4, 4] == pytest.approx(np.exp(-0.5 / 0.36), rel=1e-5)


def test_blur_keeps_images_apart() -> None:
    pair = np.zeros((2, 1, 8, 8), np.float32)
    pair[1] = 1
    assert not c8.gaussian_blur(pair, 1.3, rng())[0].any()


@pytest.mark.parametrize("function", [c8.shift, c8.elastic, c8.rotation])
def test_geometry_of_strength_zero_changes_nothing(function: c8.Corruption, images: np.ndarray) -> None:
    np.testing.assert_array_equal(function(images, 0.0, rng()), images)


def test_rotation_by_a_right_angle_is_a_rotation(images: np.ndarray) -> None:
    out = c8.rotation(images, 90.0, rng())
    left = (out == np.rot90(images, 1, (2, 3))).all(axis=(1, 2, 3))
    right = (out == np.rot90(images, -1, (2, 3))).all(axis=(1, 2, 3))
    assert (left ^ right).all()
    assert 60 < left.sum() < 140  # either way, with probability one half


def test_shift_moves_the_centre_of_mass_by_its_length() -> None:
    point = np.zeros((200, 1, 8, 8), np.float32)
    point[:, 0, 4, 4] = 1
    out = c8.shift(point, 1.4, rng())[:, 0].astype(np.float64)
    np.testing.assert_allclose(out.sum(axis=(1, 2)), 1, atol=1e-5)
    rows, columns = (out * np.arange(8)[:, None]).sum((1, 2)), (out * np.arange(8)).sum((1, 2))
    np.testing.assert_allclose(np.hypot(rows - 4, columns - 4), 1.4, atol=1e-5)
