"""Data sets of arrays: what comes out of every layout by hand, and what is said of arrays that do not suit."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.base.errors import DataFileError
from trainables.data.loading import from_files
from trainables.data.loading.open_dataset import fingerprint, load
from trainables.data.loading.own_data import check_own_data
from trainables.data.readers import own_arrays
from trainables.data.readers.array_pictures import ArrayFile, ArrayPictures
from trainables.data.types.availability import evaluation_sets, ood_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.splits import Split

Arrays = dict[str, Any]


def pixels(count: int, side: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return images (n, h, w, c)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def arrays(**changes: Any) -> Arrays:
    """Return a small data set of three classes; None leaves an array out."""
    made: Arrays = {
        "train_images": pixels(30),
        "train_labels": np.arange(30) % 3,
        "test_images": pixels(9, seed=1),
        "test_labels": np.arange(9) % 3,
        "ood_near_paintings": pixels(5, seed=2),
        "ood_far_maps": pixels(6, seed=3),
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


def npz(folder: Path, compressed: bool = False, **changes: Any) -> str:
    """Write them and return the data set's name."""
    save = np.savez_compressed if compressed else np.savez
    save(folder / "mine.npz", **arrays(**changes))
    return f"npz:{folder}/mine.npz"


def npy_folder(folder: Path, **changes: Any) -> str:
    place = folder / "arrays"
    place.mkdir()
    for name, array in arrays(**changes).items():
        np.save(place / f"{name}.npy", array)
    return f"npz:{place}"


WRITERS: dict[str, Callable[[Path], str]] = {
    "npz": npz,
    "compressed": lambda folder: npz(folder, compressed=True),
    "npy": npy_folder,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_pixels_and_labels_come_out_as_they_were_saved(writer: str, tmp_path: Path) -> None:
    name = WRITERS[writer](tmp_path)
    info = dataset_info(name)
    assert (info.num_classes, info.shape, info.builtin, info.name) == (3, (3, 8, 8), True, name)
    data = load(name)
    test = data.labelled(Split.TEST_ID)
    assert np.array_equal(test.images, pixels(9, seed=1).transpose(0, 3, 1, 2))
    assert (test.images.dtype, test.labels.dtype) == (np.uint8, np.int64)
    assert test.labels.tolist() == [0, 1, 2] * 3
    sizes = {split: {of: len(d) for of, d in data.sets(split).items()} for split in data.parts}
    assert (sizes[Split.TRAIN]["id"], sizes[Split.VAL_ID]["id"]) == (27, 3)
    assert sizes[Split.TEST_OOD_NEAR] == {"paintings": 5}
    assert sizes[Split.TEST_OOD_FAR] == {"gaussian": 500, "uniform": 500, "maps": 6}
    near = data.sets(Split.TEST_OOD_NEAR)["paintings"]
    expected = pixels(5, seed=2).transpose(0, 3, 1, 2)
    assert {image.tobytes() for image in near.images} == {image.tobytes() for image in expected}
    assert near.labels.tolist() == [-1] * 5


def test_the_place_of_a_file_changes_nothing(tmp_path: Path) -> None:
    """Hold-out and made sets are drawn alike wherever the file is and in whatever form."""
    for number in range(len(WRITERS)):
        (tmp_path / str(number)).mkdir()
    first, *others = [load(writer(tmp_path / str(n))) for n, writer in enumerate(WRITERS.values())]
    for other in others:
        for split, sets in first.parts.items():
            for of, data in sets.items():
                found = other.parts[split][of]
                assert np.array_equal(found.images, data.images), (split, of)
                assert np.array_equal(found.labels, data.labels)
    assert fingerprint(first) != fingerprint(others[0])  # names differ


RAMP = np.linspace(0, 1, 64).reshape(8, 8)
#: {layout: (one image as it is saved, its first values as they are read, by hand)}
LAYOUTS: dict[str, tuple[np.ndarray, tuple[int, int, int], list[int]]] = {
    "grey": (np.arange(64, dtype=np.uint8).reshape(8, 8), (1, 8, 8), [0, 1, 2]),
    "grey, last": (np.arange(64, dtype=np.uint8).reshape(8, 8, 1), (1, 8, 8), [0, 1, 2]),
    "grey, first": (np.arange(64, dtype=np.uint8).reshape(1, 8, 8), (1, 8, 8), [0, 1, 2]),
    "last": (np.arange(192, dtype=np.uint8).reshape(8, 8, 3), (3, 8, 8), [0, 3, 6]),
    "first": (np.arange(192, dtype=np.uint8).reshape(3, 8, 8), (3, 8, 8), [0, 1, 2]),
    # 1/63 x 255 = 4.05, 2/63 x 255 = 8.10
    "floats": (RAMP.astype(np.float32), (1, 8, 8), [0, 4, 8]),
    "doubles": (RAMP, (1, 8, 8), [0, 4, 8]),
    "halves": (RAMP.astype(np.float16), (1, 8, 8), [0, 4, 8]),
    "oblong": (np.arange(60, dtype=np.uint8).reshape(6, 10), (1, 6, 10), [0, 1, 2]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_by_hand(layout: str, tmp_path: Path) -> None:
    image, shape, first = LAYOUTS[layout]
    name = npz(
        tmp_path,
        train_images=np.stack([image] * 30),
        test_images=np.stack([image] * 9),
        ood_near_paintings=None,
        ood_far_maps=None,
    )
    assert dataset_info(name).shape == shape
    found = load(name).labelled(Split.TEST_ID).images
    assert found.shape == (9, *shape)
    assert found[3, 0, 0, :3].tolist() == first


def test_ood_images_of_another_size_and_grey_ones_are_fitted(tmp_path: Path) -> None:
    """16 x 16 of two halves is scaled to 8 x 8; grey becomes RGB."""
    halves = np.zeros((4, 16, 16), np.uint8)
    halves[:, :, 8:] = 200
    found = load(npz(tmp_path, ood_near_paintings=halves)).sets(Split.TEST_OOD_NEAR)["paintings"].images
    assert found.shape == (4, 3, 8, 8)
    assert found[0, 2, 5].tolist()[0] == 0
    assert found[0, 2, 5].tolist()[7] == 200
    assert np.array_equal(found[:, 0], found[:, 2])


def test_validation_arrays_are_validation(tmp_path: Path) -> None:
    extra = {
        "val_images": pixels(6, seed=5),
        "val_labels": np.arange(6) % 3,
        "ood_val_sketches": pixels(4, seed=6),
    }
    data = load(npz(tmp_path, **extra), search_only=True)
    assert len(data.labelled(Split.TRAIN)) == 30
    assert np.array_equal(data.labelled(Split.VAL_ID).images, extra["val_images"].transpose(0, 3, 1, 2))
    assert "sketches" in data.sets(Split.VAL_OOD_NEAR)
    assert not data.has(Split.TEST_ID)


def test_names_of_classes_are_kept(tmp_path: Path) -> None:
    names = ["cat", "dog", "owl"]
    name = npz(tmp_path, class_names=np.array(names))
    assert dataset_info(name).classes == tuple(names)
    assert load(name).info.classes == tuple(names)


def test_labels_may_be_names_or_columns(tmp_path: Path) -> None:
    """Names are numbered in their order; MedMNIST keeps labels as a column."""
    words = np.array(["owl", "cat", "dog"])
    name = npz(tmp_path, train_labels=words[np.arange(30) % 3], test_labels=words[np.arange(9) % 3])
    assert dataset_info(name).classes == ("cat", "dog", "owl")
    assert load(name).labelled(Split.TEST_ID).labels.tolist() == [2, 0, 1] * 3
    column = npz(tmp_path, train_labels=(np.arange(30) % 3)[:, None].astype(np.uint8))
    assert dataset_info(column).num_classes == 3


def test_mean_and_deviation_may_be_given(tmp_path: Path) -> None:
    assert dataset_info(npz(tmp_path)).mean == (0.485, 0.456, 0.406)
    info = dataset_info(npz(tmp_path, mean=np.array([0.1, 0.2, 0.3]), std=np.array([0.2, 0.2, 0.25])))
    assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (0.2, 0.2, 0.25))


def test_a_file_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    assert dataset_info(npz(tmp_path)).num_classes == 3
    npz(tmp_path, train_labels=np.arange(30) % 5)
    assert dataset_info(f"npz:{tmp_path}/mine.npz").num_classes == 5


def test_a_relative_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert DATASETS["npz:mine.npz"].name == f"npz:{tmp_path}/mine.npz"
    assert "npz:mine.npz" in DATASETS
    assert DATASETS[f"npz:{tmp_path}/mine.npz"].users_own


def test_the_tests_of_arrays_are_known_to_the_plan(tmp_path: Path) -> None:
    name = npz(tmp_path)
    assert ood_sets(name, "") == {"near": ["paintings"], "far": ["gaussian", "uniform", "maps"], "other": []}
    kinds = evaluation_sets(name, (3, 8, 8), "", ("ood",))
    assert [str(kind.text) for kind in kinds] == ["paintings", "gaussian, uniform, maps"]


def test_large_arrays_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are mapped in each process, and travel there as names of files."""
    monkeypatch.setattr(from_files, "IN_MEMORY_BYTES", 0)
    name = npz(tmp_path)
    images: Any = load(name, search_only=True).labelled(Split.TRAIN).images
    assert isinstance(images, LazyImages)
    sent = pickle.dumps(images)
    assert len(sent) < 1500
    assert isinstance(images.source, ArrayPictures)
    assert isinstance(images.source.images, ArrayFile)
    assert isinstance(images.source.images.array(), np.memmap)
    monkeypatch.undo()
    assert np.array_equal(
        np.asarray(pickle.loads(sent)), load(name, search_only=True).labelled(Split.TRAIN).images
    )


def test_large_compressed_arrays_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("trainables.data.readers.npz_arrays._SMALL_BYTES", 0)
    name = npz(tmp_path, compressed=True)
    assert np.array_equal(load(name).labelled(Split.TEST_ID).images, pixels(9, seed=1).transpose(0, 3, 1, 2))
    assert list((tmp_path / "cache").rglob("mine-test_images-*.npy"))


THREE = np.arange(30) % 3
LAYOUT = "want n x h x w x c, n x c x h x w or n x h x w, of 1 or 3 channels"


def objects() -> np.ndarray:
    array = np.empty(30, object)
    array[:] = "cat"
    return array


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"train_labels": None, "test_images": None},
            "{at} lacks train_labels, test_images; it holds train_images, test_labels, ood_near_paintings, ",
        ),
        ({"val_images": pixels(3)}, "{at} lacks val_labels; it holds"),
        (
            {"train_image": pixels(3)},
            "train_image of {at} is not read under that name; did you mean train_images? ",
        ),
        ({"ood_paintings": pixels(3)}, "ood_paintings of {at} is not read under that name; known: "),
        (
            {"train_images": pixels(30).astype(np.uint16)},
            "train_images of {at} is uint16 30 x 8 x 8 x 3; want uint8 in 0..255 or floats in [0, 1]",
        ),
        (
            {"train_images": pixels(30).reshape(30, 192)},
            f"train_images of {{at}} is uint8 30 x 192; {LAYOUT}",
        ),
        (
            {"train_images": pixels(30, channels=4)},
            f"train_images of {{at}} is uint8 30 x 8 x 8 x 4; {LAYOUT}",
        ),
        ({"test_images": pixels(9)[:, :3]}, f"test_images of {{at}} is uint8 9 x 3 x 8 x 3; {LAYOUT}"),
        (
            {"train_images": pixels(0), "train_labels": np.arange(0)},
            f"train_images of {{at}} is uint8 0 x 8 x 8 x 3; {LAYOUT}",
        ),
        (
            {"train_images": pixels(30, side=2)},
            "train_images of {at} has 3 channels and 2 x 2 pixels; want 1 or 3 channels and 4 to 4096 pixels",
        ),
        (
            {"train_labels": np.arange(29) % 3},
            "train_labels of {at} is 29; want 30, one label for each image",
        ),
        (
            {"train_labels": np.eye(3)[THREE]},
            "train_labels of {at} is 30 x 3; want 30, one label for each image",
        ),
        (
            {"train_labels": THREE / 1},
            "train_labels of {at} is float64; want integers from 0, or the names of the ",
        ),
        (
            {"train_labels": THREE + 1},
            "train_labels of {at} has no image of class 0, one of 4; number the 3 classes from 0 to 2",
        ),
        (  # an array of so many classes would need 8 TB
            {"train_labels": np.where(THREE == 2, 2**40, THREE)},
            "train_labels of {at} has no image of class 2, one of 1099511627777; number the 3 classes from 0 to 2",
        ),
        (
            {"train_labels": np.where(THREE == 2, 2**63 - 1, THREE)},
            "train_labels of {at} has no image of class 2, one of 9223372036854775808; number the 3 classes",
        ),
        (
            {"train_labels": np.where(THREE == 2, 2**64 - 1, THREE.astype(np.uint64))},
            "train_labels of {at} holds 18446744073709551615; want integers from 0, one for each class",
        ),
        (
            {"train_labels": THREE - 1},
            "train_labels of {at} runs from -1 to 1; want 0 to 1, the labels to train on",
        ),
        ({"train_labels": 0 * THREE}, "train_labels of {at} has 1 class; a classifier needs 2 at least"),
        (
            {"test_labels": np.arange(9)},
            "test_labels of {at} runs from 0 to 8; want 0 to 2, the labels to train on",
        ),
        (
            {"class_names": np.array(["cat", "dog"])},
            "train_labels of {at} runs from 0 to 2; want 0 to 1, the numbers of the classes",
        ),
        (
            {"class_names": np.array(["cat", "dog", "owl", "elk"])},
            "train_labels of {at} has no image of class 3 (elk), one of 4",
        ),
        (
            {"class_names": np.array(["cat", "dog", "cat"])},
            "class_names of {at} must hold a name of its own for each class",
        ),
        ({"class_names": np.arange(3)}, "class_names of {at} is int64 of 1 axes; want a list of texts"),
        (
            {"train_labels": np.array(["a", "b", "c"])[THREE], "test_labels": np.array(["a", "b", "z"] * 3)},
            "test_labels of {at} holds 'z', which is none of the 3 classes",
        ),
        ({"train_labels": objects()}, "train_labels of {at} holds pickled objects, which are never loaded"),
        ({"mean": np.array([0.5])}, "{at}: mean is [0.5]; want 3 numbers, of images in [0, 1]"),
        (
            {"std": np.array([0.5, 0.5, 0.0])},
            "{at}: std is [0.5, 0.5, 0.0]; want 3 numbers above 0, of images in [0, 1]",
        ),
        (
            {"ood_near_gaussian": pixels(3)},
            "ood_near_gaussian of {at}: the name 'gaussian' is taken by the tests' own; rename the array",
        ),
        (
            {"ood_far_paintings": pixels(3)},
            "ood_near_paintings of {at} and ood_far_paintings of {at} have one name, which their metrics would share; "
            "rename one of them",
        ),
    ],
)
def test_arrays_that_do_not_suit_are_told_in_one_line(changes: Arrays, says: str, tmp_path: Path) -> None:
    name = npz(tmp_path, **changes)
    with pytest.raises(DataFileError) as caught:
        dataset_info(name)
    assert str(caught.value).startswith(says.format(at=f"{tmp_path}/mine.npz"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (255.0, "values from 0 to 255"),
        (-0.4, "values from -0.4 to "),
        (float("nan"), "numbers that are not finite"),
        (float("inf"), "numbers that are not finite"),
    ],
)
def test_floats_that_are_not_in_0_1_are_found_before_anything_starts(
    value: float, says: str, tmp_path: Path
) -> None:
    images = np.zeros((30, 8, 8), np.float32)
    images[17, 3, 3] = value
    name = npz(tmp_path, train_images=images)
    with pytest.raises(DataFileError) as caught:
        check_own_data(name, "")
    said = str(caught.value)
    assert said.startswith(f"train_images of {tmp_path}/mine.npz: image 17 has {says}")
    assert said.endswith("images of floats must be in [0, 1], and not normalised: networks do that")


def test_rounding_errors_of_resampled_floats_are_accepted(tmp_path: Path) -> None:
    images = np.full((30, 8, 8), 1.0000002, np.float32)
    assert load(npz(tmp_path, train_images=images)).labelled(Split.TRAIN).images.max() == 255


def test_copies_between_arrays_are_refused(tmp_path: Path) -> None:
    test = pixels(9, seed=1)
    test[4] = pixels(30)[7]
    name = npz(tmp_path, test_images=test)
    with pytest.raises(DataFileError, match=r"^1 of 9 images of test are in (train|validation) too \("):
        check_own_data(name, "")


def test_arrays_that_nothing_reads_are_a_note(tmp_path: Path) -> None:
    name = npz(tmp_path, patient=np.arange(30))
    assert check_own_data(name, "")[-1] == f"{tmp_path}/mine.npz: patient are arrays that nothing reads"


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_truncated_file_is_told(size: int, tmp_path: Path) -> None:
    path = Path(npz(tmp_path).removeprefix("npz:"))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataFileError, match=r"mine\.npz is not a whole npz file: "):
        dataset_info(f"npz:{path}")


def test_a_truncated_npy_is_told(tmp_path: Path) -> None:
    name = npy_folder(tmp_path)
    path = tmp_path / "arrays" / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataFileError, match=r"train_images\.npy is truncated: "):
        dataset_info(name)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"^npz:/nowhere/mine\.npz: No such file or directory$"):
        dataset_info("npz:/nowhere/mine.npz")


def test_labels_of_another_number_than_the_images_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be of any size: compressed zeros are small in the file."""
    monkeypatch.setattr(own_arrays, "array_of_file", None)
    name = npz(tmp_path, compressed=True, test_labels=np.zeros(10**6, int))
    with pytest.raises(
        DataFileError, match=r"^test_labels of .* is 1000000; want 9, one label for each image$"
    ):
        dataset_info(name)
