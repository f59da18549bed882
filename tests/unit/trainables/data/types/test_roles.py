"""OOD roles: complete, disjoint, free of leaks; and the sets that are made rather than read."""

import numpy as np
import pytest

from trainables.data.synthetic import made_ood
from trainables.data.synthetic.glyphs import UNSEEN
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.made_sets import NEAR_TRANSFORMS, NOISES, TRANSFORMS
from trainables.data.types.ood_sets import names_with_files


def base(n: int = 12, side: int = 8, channels: int = 3, classes: int = 3) -> LabelledImages:
    pixels = np.random.RandomState(0).randint(0, 256, (n, channels, side, side)).astype(np.uint8)
    return LabelledImages(pixels, np.arange(n) % classes)


def made(name: str, data: LabelledImages) -> np.ndarray:
    return made_ood.validation_sets("toy", (name,), data)[name].images


@pytest.mark.parametrize("name", [spec.name for spec in DATASETS if spec.roles])
def test_roles_are_known_and_disjoint_and_leave_search_nothing_of_the_test(name: str) -> None:
    roles = DATASETS[name].roles
    assert roles is not None
    known = set(names_with_files()) | set(NOISES) | (set(UNSEEN) if name == "glyphs" else set())
    assert set(roles.tested) <= known
    assert len(set(roles.tested)) == len(roles.tested)
    assert name not in roles.tested
    assert not set(roles.tested) & set(roles.validation)
    assert set(roles.validation) <= set(made_ood.TRANSFORMS)
    assert len(set(roles.validation)) == len(roles.validation)
    assert ("uniform" in roles.validation) != ("rademacher" in roles.validation)


def test_cifar10_and_food101_have_the_eight_sets_of_their_papers() -> None:
    cifar, food = DATASETS["cifar10"].roles, DATASETS["food101"].roles
    assert cifar is not None
    assert food is not None
    assert {*cifar.near, *cifar.far} == {
        "dtd", "lsun-crop", "lsun-resize", "tiny-imagenet-crop", "tiny-imagenet-resize", "gaussian", "uniform",
        "fooling",
    }  # fmt: skip
    assert food.near == ("dtd", "flowers102", "oxford-pet")
    assert set(food.far) == {"svhn", "fashion-mnist", "eurosat", "mnist", "cifar10"}


def test_roles_are_one_table_of_names() -> None:
    assert {*TRANSFORMS, *NEAR_TRANSFORMS} == set(made_ood.TRANSFORMS) - {"uniform", "rademacher"}


def test_means_by_hand() -> None:
    """Images of 100 and of 200 with their only partner: (100 + 200) / 2 = 150, sqrt(100 * 200) = 141.4."""
    two = LabelledImages(np.full((2, 1, 2, 2), [[[[100]]], [[[200]]]], np.uint8), np.array([0, 1]))
    assert (made("arithmetic_mean", two) == 150).all()
    assert (made("geometric_mean", two) == 141).all()


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2, 2], [3, 1, 2, 0], [5, 5, 9, 9]])
def test_partners_are_of_another_class(labels: list[int]) -> None:
    data = LabelledImages(np.zeros((len(labels), 1, 2, 2), np.uint8), np.array(labels))
    partners = made_ood._partners(data, made_ood.random_of("x"))
    assert sorted(partners) == list(range(len(labels)))
    assert (data.labels[partners] != data.labels).all()


@pytest.mark.parametrize("side", [8, 10])
def test_jigsaw_moves_whole_tiles_of_each_image(side: int) -> None:
    data = base(200, side)
    out = made("jigsaw", data)
    assert np.array_equal(np.sort(out.reshape(200, 3, -1)), np.sort(data.images.reshape(200, 3, -1)))
    assert not (out == data.images).all(axis=(1, 2, 3)).any()
    tile = side // (4 if side % 4 == 0 else 2)
    corner = data.images[0, :, :tile, :tile]
    places = [(i, j) for i in range(0, side, tile) for j in range(0, side, tile)]
    assert any(np.array_equal(out[0, :, i : i + tile, j : j + tile], corner) for i, j in places)


def test_pixelated_rgb_shifted_inverted_by_hand() -> None:
    ramp = np.arange(100, dtype=np.uint8).reshape(1, 1, 10, 10)
    out = made("pixelated", LabelledImages(ramp, np.zeros(1, np.int64)))
    # 10 * 0.2 = 2 cells of 5 x 5; the mean of the first is that of rows 0, 10, .. 40 and columns 0 to 4: 22
    assert out[0, 0, :5, :5].tolist() == [[22] * 5] * 5
    assert out[0, 0, 5:, 5:].tolist() == [[77] * 5] * 5
    pixel = np.array([[[[1, 2]], [[3, 4]], [[5, 6]]]], np.uint8)
    data = LabelledImages(pixel, np.zeros(1, np.int64))
    assert made("rgb_shifted", data).tolist() == [[[[4, 3]], [[5, 6]], [[1, 2]]]]
    assert made("inverted", data).tolist() == [[[[254, 253]], [[252, 251]], [[250, 249]]]]


def test_noises_have_their_distributions() -> None:
    shape = (3, 32, 32)
    uniform = made_ood.noise_set("toy", "uniform", 100, shape).images / 255
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.005)
    gaussian = made_ood.noise_set("toy", "gaussian", 100, shape).images
    # N(.5, .5) clipped: a share of 15.9 % beyond each end
    assert (gaussian == 0).mean() == pytest.approx(0.159, abs=0.005)
    assert (gaussian == 255).mean() == pytest.approx(0.159, abs=0.005)
    assert set(np.unique(made("rademacher", base(100)))) == {0, 255}
    speckled = made("speckled", LabelledImages(np.zeros((5, 1, 4, 4), np.uint8), np.arange(5)))
    assert not speckled.any(), "black stays black"


def test_made_sets_depend_on_the_data_set_and_their_name_alone() -> None:
    first = made_ood.validation_sets("a", ("uniform", "jigsaw"), base())
    again = made_ood.validation_sets("a", ("jigsaw", "uniform"), base())
    other = made_ood.validation_sets("b", ("uniform",), base())
    assert np.array_equal(first["uniform"].images, again["uniform"].images)
    assert np.array_equal(first["jigsaw"].images, again["jigsaw"].images)
    assert not np.array_equal(first["uniform"].images, other["uniform"].images)
    assert first["uniform"].labels.tolist() == [-1] * 12
    tested = made_ood.noise_set("a", "uniform", 12, (3, 8, 8))
    assert not np.array_equal(first["uniform"].images, tested.images)
