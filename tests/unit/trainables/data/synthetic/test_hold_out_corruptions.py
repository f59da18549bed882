"""The hold-out corruptions of validation: strengths by hand, HSV against matplotlib's, and that no test has them."""

import numpy as np
import pytest

from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.synthetic.corruptions_imagenet import HOLD_OUT
from trainables.data.synthetic.hold_out_corruptions import hold_out_blocks, hold_out_corruptions, saturate
from trainables.data.types.benchmark import LabelledImages


def base(n: int, side: int, channels: int = 3) -> LabelledImages:
    cells = np.random.RandomState(0).randint(0, 256, (n, channels, 4, 4))
    return LabelledImages(cells.repeat(side // 4, 2).repeat(side // 4, 3).astype(np.uint8), np.arange(n) % 2)


@pytest.mark.parametrize("side", [8, 32, 64, 96])
def test_they_are_the_four_of_the_benchmark(side: int) -> None:
    data = base(6, side)
    found = hold_out_corruptions("toy", data)
    assert {name.split("/")[0] for name in found} == set(HOLD_OUT)
    assert not set(HOLD_OUT) & set(CORRUPTIONS)
    for name in HOLD_OUT:
        for level in range(1, 6):
            one = found[f"{name}/{level}"]
            assert one.images.dtype == np.uint8
            assert one.images.shape == data.images.shape
            assert np.array_equal(one.labels, data.labels)
    for name in ("speckle_noise", "gaussian_blur"):
        errors = [np.abs(found[f"{name}/{k}"].images.astype(int) - data.images).mean() for k in range(1, 6)]
        assert errors == sorted(errors)
        assert errors[0] > 0


def test_the_same_name_gives_the_same_images() -> None:
    first, again, other = (hold_out_corruptions(name, base(3, 32)) for name in ("a", "a", "b"))
    assert all(np.array_equal(first[name].images, again[name].images) for name in first)
    assert any((first[f"spatter/{k}"].images != other[f"spatter/{k}"].images).any() for k in range(1, 6))


def test_speckle_strength_is_cifar_cs() -> None:
    """On grey 128 the noise of severity 5 is 0.2 x 0.502 x 255 = 25.6 grey levels wide."""
    grey = LabelledImages(np.full((50, 3, 32, 32), 128, np.uint8), np.arange(50))
    found = hold_out_corruptions("toy", grey)["speckle_noise/5"].images
    assert found.std() == pytest.approx(25.6, abs=0.3)


def test_saturate_by_hand() -> None:
    """Saturation 0.5 times 0.3 is 0.15: 1 - 0.15 = 0.85. Grey stays grey unless something is added: then it reddens."""
    pixel = np.array([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0]).reshape(3, 3, 1, 1)
    assert saturate(pixel, 0.3, 0.0)[0].ravel() == pytest.approx([1, 0.85, 0.85])
    assert saturate(pixel, 20, 0.0)[0].ravel() == pytest.approx([1, 0, 0])
    assert saturate(pixel, 0.3, 0.0)[1].ravel() == pytest.approx([0.5, 0.5, 0.5])
    assert saturate(pixel, 0.3, 0.2)[1].ravel() == pytest.approx([0.5, 0.4, 0.4])
    assert saturate(pixel, 5, 0.1)[2].ravel() == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(("factor", "offset"), [(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (5.0, 0.1), (20.0, 0.2)])
def test_saturate_is_that_of_hsv(factor: float, offset: float) -> None:
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    unit = np.random.default_rng(0).random((2, 3, 9, 9))
    unit[0, :, :3] = unit[0, :1, :3]  # some grey
    hsv = rgb_to_hsv(unit.transpose(0, 2, 3, 1))
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    np.testing.assert_allclose(
        saturate(unit, factor, offset), hsv_to_rgb(hsv).transpose(0, 3, 1, 2), atol=1e-12
    )


def test_spatter_is_water_and_then_mud() -> None:
    """On grey, water of three severities brightens towards turquoise, mud of two darkens towards brown."""
    grey = LabelledImages(np.full((20, 3, 32, 32), 128, np.uint8), np.zeros(20, np.int64))
    found = hold_out_corruptions("toy", grey)
    for level in range(1, 6):
        images = found[f"spatter/{level}"].images.transpose(0, 2, 3, 1).reshape(-1, 3).astype(int)
        touched = images[(images != 128).any(1)]
        assert 0.001 < len(touched) / len(images) < 0.8
        mean = touched.mean(0)
        if level <= 3:
            assert 128 < mean[0] < mean[1] == pytest.approx(mean[2])
        else:
            assert 128 > mean[0] > mean[1] > mean[2]


def test_grey_images_have_no_saturation() -> None:
    found = hold_out_corruptions("toy", base(2, 32, channels=1))
    assert {name.split("/")[0] for name in found} == {"speckle_noise", "gaussian_blur", "spatter"}
    assert found["spatter/4"].images.shape == (2, 1, 32, 32)


def test_blocks_have_other_images_each_and_the_same_corruptions() -> None:
    """20 sets of 3 out of 100 images: speckle/1 has images 0 to 2, speckle/2 images 3 to 5, saturate/5 57 to 59."""
    data = base(100, 96)
    found = hold_out_blocks("toy", data, 3)
    assert list(found) == list(hold_out_corruptions("toy", base(1, 96)))
    for place, (name, block) in enumerate(found.items()):
        rows = slice(3 * place, 3 * place + 3)
        alone = hold_out_corruptions("toy", LabelledImages(data.images[rows], data.labels[rows]))[name]
        assert np.array_equal(block.images, alone.images), name
        assert np.array_equal(block.labels, alone.labels)


def test_blocks_begin_again_where_there_are_few_images() -> None:
    """Of 5 images the second set of 3 has 3, 4, 0; of 2 images every set has both."""
    data = LabelledImages(base(5, 96).images, np.arange(5))
    labels = [block.labels.tolist() for block in hold_out_blocks("toy", data, 3).values()]
    assert labels[:3] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]
    few = LabelledImages(data.images[:2], np.arange(2))
    assert all(sorted(b.labels.tolist()) == [0, 1] for b in hold_out_blocks("toy", few, 3).values())
