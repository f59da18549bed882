"""Test images among those that are trained on: refused where the user can change it, a note where he cannot."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import disk_formats
from trainables.base.errors import DataFileError
from trainables.data.loading.duplicates import Overlap
from trainables.data.loading.leakage import leakage_notes, leaks
from trainables.data.loading.open_dataset import load
from trainables.data.loading.own_data import check_own_data
from trainables.data.types.splits import Split
from trainables.options.common import OutlierOptions


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    disk_formats.imagefolder(tmp_path)
    return tmp_path


def notes(
    folder: Path, *outliers: OutlierOptions, dataset: str = "imagefolder", allowed: bool = False
) -> list:
    return list(leakage_notes(dataset, str(folder), outliers, allowed))


def test_own_pictures_without_copies_need_no_note(pictures: Path) -> None:
    assert notes(pictures) == []


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("train/class 0/class 0_1.png", "test/class 1", "1 of 13 images of test are in train too"),
        ("train/class 0/class 0_1.png", "ood/near/paintings", "1 of 6 images of near OOD paintings are in "),
        ("test/class 0/class 0_1.png", "ood/far/maps", "1 of 7 images of far OOD maps are in test too"),
    ],
)  # fmt: skip
def test_a_copy_of_a_file_is_refused_before_anything_starts(
    source: str, target: str, said: str, pictures: Path
) -> None:
    path, copy = pictures / source, pictures / target / "copied.png"
    shutil.copy(path, copy)
    with pytest.raises(DataFileError) as caught:
        check_own_data("imagefolder", str(pictures))
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(
        f" ({path} = {copy}); remove the copies, or go on with --allow-duplicates"
    )
    assert check_own_data("imagefolder", str(pictures), allow_duplicates=True)


def test_the_same_pixels_in_another_file_are_refused_when_they_are_decoded(pictures: Path) -> None:
    path, copy = pictures / "train/class 0/class 0_1.png", pictures / "test/class 1/copied.png"
    with Image.open(path) as picture:
        picture.save(copy, compress_level=1)
    check_own_data("imagefolder", str(pictures))
    with pytest.raises(DataFileError) as caught:
        notes(pictures)
    said = f"1 of 13 images of test are in train too ({path} = {copy})"
    assert str(caught.value) == f"{said}; remove the copies, or go on with --allow-duplicates"
    assert notes(pictures, allowed=True) == [f"{said} (--allow-duplicates)"]


def test_the_same_picture_in_training_and_validation_is_refused(pictures: Path) -> None:
    """Ten pictures a class that are all one: whichever is held out stands in train too."""
    folder = pictures / "train" / "class 0"
    for number in range(1, 10):
        shutil.copy(folder / "class 0_0.png", folder / f"class 0_{number}.png")
    with pytest.raises(DataFileError, match=r"^1 of 3 images of validation are in train too"):
        check_own_data("imagefolder", str(pictures))


def test_one_picture_in_two_ood_sets_and_one_saved_again_are_notes(pictures: Path) -> None:
    shutil.copy(pictures / "ood/near/paintings/paintings_0.jpg", pictures / "ood/far/maps/copied.jpg")
    with Image.open(pictures / "train/class 0/class 0_1.png") as picture:
        picture.resize((120, 80)).save(pictures / "test/class 1/again.webp", quality=90)
    found = notes(pictures)
    assert len(found) == 2
    assert found[0].startswith("1 of 7 images of far OOD maps are in near OOD paintings too")
    assert found[1].startswith("1 of 13 images of test look like images of ")


def test_published_sets_share_images_with_a_note_only(tmp_path: Path) -> None:
    written = disk_formats.cifar10(tmp_path)
    images, labels = written["test"]
    images = images.copy()
    images[4] = written["train"][0][50]
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    disk_formats.cifar_batch(path, images, labels.tolist(), "labels")
    assert notes(tmp_path, dataset="cifar10") == [
        "1 of 20 images of test are in train too (train 40 = test 4)"
    ]


@pytest.mark.parametrize("dataset", ["digits", "glyphs"])
def test_built_in_sets_are_not_opened(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.loading.leakage.load", lambda *_: pytest.fail("was opened"))
    assert leakage_notes(dataset, "", (), allowed=False) == ()


@pytest.mark.parametrize("generator", ["npz", "images300k"])
def test_test_images_among_the_training_outliers_are_refused(generator: str, tmp_path: Path) -> None:
    """Three outliers of five are far OOD test images of the digits; of a published or built-in set, too."""
    far = load("digits-open").sets(Split.TEST_OOD_FAR)
    name, data = next(iter(far.items()))
    taken = np.asarray(data.images[:3])
    taken = taken if taken.dtype == np.uint8 else np.rint(taken * 255).astype(np.uint8)
    outliers = np.concatenate([disk_formats.pixels(2, 8, 8, 1)[:, None], taken])
    path = tmp_path / f"mine.{'npz' if generator == 'npz' else 'npy'}"
    if generator == "npz":
        np.savez(path, x=outliers)
    else:
        np.save(path, outliers.transpose(0, 2, 3, 1))
    options = OutlierOptions(generator=generator, path=str(path))
    with pytest.raises(DataFileError) as caught:
        notes(tmp_path, options, dataset="digits-open")
    assert f"of {len(data)} images of far OOD {name} are in outliers {path.name} too" in str(caught.value)
    assert f"(outliers {path.name} 2 = far OOD {name} 0, " in str(caught.value)
    clean = np.ascontiguousarray(outliers[:2])
    np.savez(path, x=clean) if generator == "npz" else np.save(path, clean.transpose(0, 2, 3, 1))
    assert notes(tmp_path, options, dataset="digits-open") == []


def test_many_pairs_of_sets_are_one_line() -> None:
    found = [Overlap("train", f"test_ood_near/{name}", 1, 2, (), True) for name in "abcde"]
    with pytest.raises(DataFileError) as caught:
        leaks(found, users_own=True, allowed=False)
    assert str(caught.value).count("are in train too") == 3
    assert "; and 2 more pairs of sets; remove the copies" in str(caught.value)
    assert leaks(found, users_own=False, allowed=False) == [str(overlap) for overlap in found]


def test_pictures_that_stay_files_are_compared_by_their_bytes_and_a_note_says_so(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.loading.leakage.IN_MEMORY_BYTES", 0)
    over = "its pictures are over 4 GiB; copies were looked for by the files' bytes alone"
    assert notes(pictures) == [f"imagefolder: {over}"]
    shutil.copy(pictures / "train/class 0/class 0_1.png", pictures / "test/class 1/copied.png")
    with pytest.raises(DataFileError, match=r"^1 of 13 images of test are in train too"):
        notes(pictures)
