"""The built-in benchmark: sizes, roles, and the checksum of every set."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest

from trainables.base.errors import InputError
from trainables.data.loading.open_dataset import fingerprint, fingerprint_images, load
from trainables.data.synthetic.digits import jigsaw
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.splits import SEARCH_SPLITS, Split

NAMES = ("digits", "digits-open")


@cache
def benchmark(name: str) -> Benchmark:
    return load(name)


def images(name: str, split: Split, of: str = "id") -> np.ndarray:
    return benchmark(name).sets(split)[of].images


def checksum(data: LabelledImages) -> str:
    """Return the checksum of the images in grey levels, which a library's last bit cannot change."""
    grey = np.round(data.images.astype(np.float64) * 255).astype(np.uint8)
    return hashlib.sha256(grey.tobytes() + data.labels.astype("<i8").tobytes()).hexdigest()[:16]


CHECKSUMS = {
    "digits": {
        "train:id": "00939739790739f9",
        "val_id:id": "279509c5537fd4ef",
        "val_ood_near:halves": "079fb79632f35c9b",
        "val_ood_near:patchwork": "4ab6afbb1c94cfc5",
        "val_ood_near:warped": "0437f975087f153c",
        "val_ood_far:rademacher": "f919b59c7a1adc46",
        "val_ood_far:flower": "65786f5ec897639d",
        "val_ood_far:jigsaw": "731fbf9275a2512d",
        "val_ood_far:inverted": "41030ddac504ed9a",
        "val_corrupted:speckle_noise": "a14176c76c886d70",
        "val_corrupted:gaussian_blur": "a3e6ecd7b9538e82",
        "test_id:id": "da2b3ef4e6c36754",
        "test_ood_near:permuted": "84a3887b92ebecee",
        "test_ood_near:hflip": "c2d2dbded8409f4a",
        "test_ood_near:mixture": "ccf021bd1aff2c38",
        "test_ood_far:uniform": "40a9e9aec8128961",
        "test_ood_far:gaussian": "69ad51169e621756",
        "test_ood_far:blobs": "3510c0a5faac1482",
        "test_ood_far:china": "26790ce140496087",
        "test_ood_far:china_stretched": "04b2aa85bd53fd1d",
        "test_ood_other:rotated90": "0e48e44ffa9b52c8",
        "corrupted:gaussian_noise": "f056313d151c1cae",
        "corrupted:shot_noise": "27833e9094f9b540",
        "corrupted:impulse_noise": "1afaf69b3750bcc3",
        "corrupted:gaussian_blur": "e71cfc4833719c09",
        "corrupted:contrast": "6eb91ffbb8d01e10",
        "corrupted:brightness": "931dc40e31f5ded6",
        "corrupted:pixelate": "d094d73ef9923abe",
        "corrupted:shift": "ddb07b441aba70ea",
        "corrupted:elastic": "cc1fc3eae236d516",
        "corrupted:rotation": "aa93e76f439ef8c0",
    },
    "digits-open": {
        "train:id": "3cad8c8f9dc3dde8",
        "val_id:id": "990abd202bb09c72",
        "val_ood_near:halves": "c0172fc679165e66",
        "val_ood_near:patchwork": "5cb6b059c9f6cb69",
        "val_ood_near:warped": "0c12ce4440817ed1",
        "val_ood_far:rademacher": "f919b59c7a1adc46",
        "val_ood_far:flower": "65786f5ec897639d",
        "val_ood_far:jigsaw": "7461027ecde606c6",
        "val_ood_far:inverted": "ccd6483655176863",
        "val_corrupted:speckle_noise": "0c066994cbdb8cc4",
        "val_corrupted:gaussian_blur": "20408fb9166894df",
        "test_id:id": "50acca183b539722",
        "test_ood_near:permuted": "259a3f65ef2315e9",
        "test_ood_near:hflip": "c69fc6a52812bda0",
        "test_ood_near:mixture": "a345fea9bef398c3",
        "test_ood_near:unknown": "5a9fccf801bc1e75",
        "test_ood_far:uniform": "40a9e9aec8128961",
        "test_ood_far:gaussian": "69ad51169e621756",
        "test_ood_far:blobs": "3510c0a5faac1482",
        "test_ood_far:china": "26790ce140496087",
        "test_ood_far:china_stretched": "04b2aa85bd53fd1d",
        "test_ood_other:rotated90": "9cc7eba57156f37f",
        "corrupted:gaussian_noise": "b64575aa6a0c242f",
        "corrupted:shot_noise": "946e307dc1767106",
        "corrupted:impulse_noise": "4d5e4611cb0fb820",
        "corrupted:gaussian_blur": "9c8c66c2f72ba30e",
        "corrupted:contrast": "60769796749b4a19",
        "corrupted:brightness": "b131161c47ea74a6",
        "corrupted:pixelate": "a1b1b21cf9d22415",
        "corrupted:shift": "06a2c086494e7c40",
        "corrupted:elastic": "25ed10a064024a4c",
        "corrupted:rotation": "b3900751ef08e053",
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_every_set_has_its_checksum(name: str) -> None:
    found = {
        f"{split.value}:{of}": checksum(data)
        for split, sets in benchmark(name).parts.items()
        for of, data in sets.items()
        if split not in (Split.CORRUPTED, Split.VAL_CORRUPTED)
    }
    for split in (Split.CORRUPTED, Split.VAL_CORRUPTED):
        sets = {of: checksum(data) for of, data in benchmark(name).sets(split).items()}
        by_corruption: dict[str, list[str]] = {}
        for of, value in sets.items():
            by_corruption.setdefault(of.split("/")[0], []).append(value)
        for corruption, values in by_corruption.items():
            whole = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
            found[f"{split.value}:{corruption}"] = whole
    assert found == CHECKSUMS[name]


def test_split_sizes_and_stratification() -> None:
    whole = benchmark("digits")
    sizes = [len(whole.labelled(s)) for s in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)]
    assert sizes == [1000, 297, 500]
    shares = np.bincount(whole.labelled(Split.TRAIN).labels) / 1000
    for split in (Split.VAL_ID, Split.TEST_ID):
        labels = whole.labelled(split).labels
        assert np.abs(np.bincount(labels) / len(labels) - shares).max() < 0.005
    assert [
        len(benchmark("digits-open").labelled(s)) for s in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)
    ] == [
        603,
        178,
        302,
    ]


def test_splits_share_no_image() -> None:
    parts = [images("digits", s).reshape(-1, 64) for s in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)]
    rows = [{row.tobytes() for row in part} for part in parts]
    assert not (rows[0] & rows[1]) | (rows[0] & rows[2]) | (rows[1] & rows[2])


@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_well_formed(name: str) -> None:
    for split, sets in benchmark(name).parts.items():
        for of, data in sets.items():
            assert data.images.dtype == np.float32, of
            assert data.images.shape == (len(data.labels), 1, 8, 8), of
            assert data.images.flags.c_contiguous, of
            assert data.images.min() >= 0, of
            assert data.images.max() <= 1, of
            assert data.labels.dtype == np.int64, of
            if "ood" in split.value:
                assert (data.labels == -1).all(), of
            else:
                assert set(data.labels) == set(range(dataset_info(name).num_classes)), of


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_sets(name: str) -> None:
    sets = benchmark(name).sets
    assert list(sets(Split.VAL_OOD_NEAR)) == ["halves", "patchwork", "warped"]
    assert list(sets(Split.VAL_OOD_FAR)) == ["rademacher", "flower", "jigsaw", "inverted"]
    assert list(sets(Split.TEST_OOD_FAR)) == ["uniform", "gaussian", "blobs", "china", "china_stretched"]
    near = ["permuted", "hflip", "mixture"] + (["unknown"] if name == "digits-open" else [])
    assert list(sets(Split.TEST_OOD_NEAR)) == near
    assert list(sets(Split.TEST_OOD_OTHER)) == ["rotated90"]
    assert len(sets(Split.CORRUPTED)) == 50
    assert len(sets(Split.VAL_CORRUPTED)) == 10


@pytest.mark.parametrize("name", NAMES)
def test_catalog_has_mean_and_std_of_the_training_images(name: str) -> None:
    x = images(name, Split.TRAIN).astype(np.float64)
    info = dataset_info(name)
    assert (info.mean, info.std) == ((round(x.mean(), 4),), (round(x.std(), 4),))


def test_open_is_the_first_six_classes_of_digits() -> None:
    for split in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID):
        whole, known = benchmark("digits").labelled(split), benchmark("digits-open").labelled(split)
        np.testing.assert_array_equal(whole.images[whole.labels < 6], known.images)
    test = benchmark("digits").labelled(Split.TEST_ID)
    unknown = images("digits-open", Split.TEST_OOD_NEAR, "unknown")
    np.testing.assert_array_equal(test.images[test.labels >= 6], unknown)


@pytest.mark.parametrize("name", NAMES)
def test_derived_sets_come_from_their_own_split(name: str) -> None:
    validation, test = images(name, Split.VAL_ID), benchmark(name).labelled(Split.TEST_ID)
    np.testing.assert_array_equal(images(name, Split.VAL_OOD_FAR, "inverted"), 1 - validation)
    scrambled = images(name, Split.VAL_OOD_FAR, "jigsaw")
    np.testing.assert_array_equal(np.sort(scrambled.reshape(-1, 64)), np.sort(validation.reshape(-1, 64)))

    permuted = images(name, Split.TEST_OOD_NEAR, "permuted").reshape(-1, 64)
    flat = test.images.reshape(-1, 64)
    np.testing.assert_array_equal(np.sort(permuted), np.sort(flat))
    order = [int(np.flatnonzero((flat == column[:, None]).all(0))[0]) for column in permuted.T]
    np.testing.assert_array_equal(permuted, flat[:, order])  # one permutation for all images

    asymmetric = np.isin(test.labels, (2, 3, 4, 5, 6, 7, 9))
    np.testing.assert_array_equal(
        images(name, Split.TEST_OOD_NEAR, "hflip"), test.images[asymmetric][:, :, :, ::-1]
    )
    turned = images(name, Split.TEST_OOD_OTHER, "rotated90")
    chosen = test.images[np.isin(test.labels, (2, 3, 4, 5, 7))]
    np.testing.assert_array_equal(turned, np.rot90(chosen, axes=(2, 3)))


def test_jigsaw_moves_whole_quadrants_and_leaves_none_in_order() -> None:
    quadrants = np.kron(np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((4, 4)))[None, None]
    out = jigsaw(np.repeat(quadrants, 200, 0), np.random.RandomState(0))
    corners = out[:, 0, ::4, ::4].reshape(200, 4)
    np.testing.assert_array_equal(out[:, 0], np.kron(corners.reshape(200, 2, 2), np.ones((4, 4))))
    orders = {tuple(c) for c in corners.tolist()}
    assert (0.0, 1.0, 2.0, 3.0) not in orders
    assert len(orders) == 23


def test_stretched_photographs_span_the_whole_range() -> None:
    x = images("digits", Split.TEST_OOD_FAR, "china_stretched")
    assert (x.min(axis=(1, 2, 3)) == 0).all()
    assert (x.max(axis=(1, 2, 3)) == 1).mean() > 0.99  # all but constant sky


def test_fingerprint_tells_contents_apart() -> None:
    whole = benchmark("digits-open")
    shuffled = dict(reversed(whole.parts.items()))
    assert fingerprint(Benchmark(whole.info, shuffled)) == fingerprint(whole)
    assert fingerprint(load("digits-open")) == fingerprint(whole)
    assert fingerprint(benchmark("digits")) != fingerprint(whole)
    assert fingerprint(whole.for_search()) != fingerprint(whole)
    data = whole.labelled(Split.VAL_ID)
    changed = data.images.copy()
    changed[-1, 0, 7, 7] += 1 / 256
    variants = [
        data,
        LabelledImages(changed, data.labels),
        LabelledImages(data.images, data.labels[::-1]),
        LabelledImages(data.images.reshape(-1, 1, 4, 16), data.labels),
        LabelledImages(data.images.view(np.int32), data.labels),
    ]
    assert len({fingerprint_images(v) for v in variants}) == len(variants)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown dataset 'digts'; did you mean digits"):
        load("digts")


def test_search_copy_carries_no_test_image() -> None:
    assert set(benchmark("digits").for_search().parts) == SEARCH_SPLITS
