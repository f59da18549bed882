"""CIFAR-10-C's strengths at 32 pixels: what has a closed form by hand, the rest against the published table."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.unit.trainables.data.synthetic.test_corruptions_imagenet import images, needs_library
from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.synthetic import corruptions_imagenet
from trainables.data.synthetic.corruptions_cifar import STRENGTHS, corrupt_small
from trainables.data.synthetic.corruptions_imagenet import bake_key, corrupt

Array = np.ndarray
GREY = np.full((32, 32, 3), 128, np.uint8)  # 128 / 255 = 0.502
PICTURE = images(1)[0].transpose(1, 2, 0).copy()


def plain(pixels: Array, corruption: str, severity: int) -> Array:
    """Return what needs no library."""
    draws = [corrupt_small(pixels, corruption, severity, seed, None) for seed in range(6)]  # type: ignore[arg-type]
    return np.stack(draws)


def test_they_are_the_fifteen_of_the_test() -> None:
    assert set(STRENGTHS) == set(CORRUPTIONS)
    assert {len(values) for values in STRENGTHS.values()} == {5}


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.04), (2, 0.06), (3, 0.08), (4, 0.09), (5, 0.10)])
def test_gaussian_noise(severity: int, sigma: float) -> None:
    assert (plain(GREY, "gaussian_noise", severity) / 255).std() == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize(("severity", "photons"), [(1, 500), (2, 250), (3, 100), (4, 75), (5, 50)])
def test_shot_noise(severity: int, photons: int) -> None:
    """The variance of a Poisson number of mean 0.502 n, over n squared."""
    want = np.sqrt(128 / 255 / photons)
    assert (plain(GREY, "shot_noise", severity) / 255).std() == pytest.approx(want, rel=0.03)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (2, 0.02), (3, 0.03), (4, 0.05), (5, 0.07)])
def test_impulse_noise(severity: int, share: float) -> None:
    noisy = plain(GREY, "impulse_noise", severity)
    for value in (0, 255):
        assert (noisy == value).mean() == pytest.approx(share / 2, abs=0.003)


@pytest.mark.parametrize(("severity", "factor"), [(1, 0.75), (2, 0.5), (3, 0.4), (4, 0.3), (5, 0.15)])
def test_contrast(severity: int, factor: float) -> None:
    means = PICTURE.mean((0, 1), keepdims=True)
    assert np.abs(plain(PICTURE, "contrast", severity)[0] - ((PICTURE - means) * factor + means)).max() <= 1


@pytest.mark.parametrize(("severity", "added"), [(1, 0.05), (2, 0.1), (3, 0.15), (4, 0.2), (5, 0.3)])
def test_brightness_adds_to_the_value_and_keeps_the_hue(severity: int, added: float) -> None:
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    pixels = np.concatenate([PICTURE[:31], np.zeros((1, 32, 3), np.uint8)])
    hsv = rgb_to_hsv(pixels / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    assert np.abs(plain(pixels, "brightness", severity)[0] - hsv_to_rgb(hsv) * 255).max() <= 1.01


@pytest.mark.parametrize(("severity", "quality"), [(1, 80), (2, 65), (3, 58), (4, 50), (5, 40)])
def test_jpeg(severity: int, quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "JPEG", quality=quality)
    np.testing.assert_array_equal(
        plain(PICTURE, "jpeg_compression", severity)[0], np.asarray(Image.open(buffer))
    )


@pytest.mark.parametrize(("severity", "side"), [(1, 30), (2, 28), (3, 27), (4, 24), (5, 20)])
def test_pixelate(severity: int, side: int) -> None:
    """int(32 x share): 30, 28, 27, 24 and 20 pixels a side."""
    small = Image.fromarray(PICTURE).resize((side, side), Image.Resampling.BOX)
    want = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_array_equal(plain(PICTURE, "pixelate", severity)[0], want)


def test_elastic_moves_the_corners_by_its_share_of_the_side() -> None:
    """At severity 1 the map is affine: a ramp stays a plane, moved by at most 0.08 x 32 = 2.6 pixels in the middle."""
    ramp = np.repeat((np.arange(32) * 4 + 64)[None, :, None], 32, 0).repeat(3, 2).astype(np.uint8)
    moved = plain(ramp, "elastic_transform", 1).astype(float)
    middle = moved[:, 12:20, 12:20, 0]
    assert np.abs(middle - ramp[12:20, 12:20, 0]).max() <= 4 * 32 * 0.08 * 2
    assert np.abs(np.diff(middle, 2, axis=2)).max() <= 2, "a plane, to whole grey levels"
    assert np.abs(moved - ramp[..., :]).mean() > 1


#: By hand from the published table, of what has no closed form.
TABLE = {
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "glass_blur": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "frost": [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "zoom_blur": [1.06, 1.11, 1.16, 1.21, 1.26],
}


@pytest.mark.parametrize("corruption", TABLE)
def test_the_rest_has_the_published_parameters(corruption: str) -> None:
    assert list(STRENGTHS[corruption]) == TABLE[corruption]


@needs_library
@pytest.mark.parametrize(
    "corruption",
    [
        *("defocus_blur", "motion_blur", "zoom_blur", "fog", "snow", "frost"),
        pytest.param("glass_blur", marks=pytest.mark.slow),  # its loop is compiled
    ],
)
def test_they_are_milder_than_imagenets_and_grow(corruption: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(8)

    def distance(severity: int) -> float:
        return float(np.abs(corrupt(data, corruption, severity, seed=0).astype(float) - data).mean())

    small = [distance(severity) for severity in (1, 5)]
    monkeypatch.setattr(corruptions_imagenet, "has_cifar_strengths", lambda shape: False)
    assert small[0] < small[1] < distance(5)
    assert small[0] < distance(1)


@needs_library
def test_a_defocused_point_by_hand() -> None:
    """At severity 1 the disk is one pixel, blurred by a deviation of 0.4: exp(-1 / 0.32) = 0.044 for each neighbour."""
    point = np.zeros((1, 3, 32, 32), np.uint8)
    point[:, :, 16, 16] = 255
    lit = corrupt(point, "defocus_blur", 1, 0)[0, 0] / 255
    tail = np.exp(-1 / (2 * 0.4**2))
    assert lit[16, 16] == pytest.approx(1 / (1 + 2 * tail) ** 2, abs=0.01)
    assert lit[16, 17] == pytest.approx(tail / (1 + 2 * tail) ** 2, abs=0.01)
    assert (lit > 0).sum() == 5, "corners round to black"


@needs_library
def test_only_images_of_32_pixels_have_them() -> None:
    """The noise of severity 5 is 0.10 at 32 pixels and ImageNet's 0.38, clipped to 0.32 or so, above."""
    for side, low, high in ((32, 0.095, 0.105), (33, 0.25, 0.38)):
        grey = np.full((4, 3, side, side), 128, np.uint8)
        assert low < (corrupt(grey, "gaussian_noise", 5, seed=0) / 255).std() < high


@needs_library
def test_files_that_were_baked_at_the_former_strengths_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data, large = images(2), images(2, side=64)
    keys = bake_key(data), bake_key(large)
    monkeypatch.setattr(corruptions_imagenet, "has_cifar_strengths", lambda shape: False)
    assert bake_key(data) != keys[0]
    assert bake_key(large) == keys[1]
