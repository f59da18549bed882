"""What is found in a user's own pictures before anything starts, and what is only worth a note."""

from pathlib import Path

import pytest

from tests.unit import disk_formats
from trainables.base.errors import DataFileError
from trainables.data.loading.own_pictures import check_own_pictures

FEW = "imagefolder: {} validation images{}, a tenth of those in train/; with so few, the best trial of a search is "


def test_few_validation_images_are_a_note_with_their_number(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, train=10)
    notes = check_own_pictures("imagefolder", str(tmp_path))
    assert notes == [f"{FEW.format(3, '')}largely chance"]
    disk_formats.picture(tmp_path / "train" / "class 3" / "only.png")
    disk_formats.picture(tmp_path / "test" / "class 3" / "only.png", seed=77)
    notes = check_own_pictures("imagefolder", str(tmp_path))
    assert notes == [f"{FEW.format(3, ', none of 1 of the 4 classes')}largely chance"]


def test_fifty_validation_images_of_every_class_need_no_note(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, classes=2, train=250)
    assert check_own_pictures("imagefolder", str(tmp_path)) == []


def test_one_picture_a_class_is_refused_with_the_numbers(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, train=1)
    with pytest.raises(
        DataFileError, match=r"3 training images of 3 classes, 1 in the smallest .* leave none for validation"
    ):
        check_own_pictures("imagefolder", str(tmp_path))


def test_a_class_in_the_test_folder_alone_is_named(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    disk_formats.picture(tmp_path / "test" / "zebra" / "a.png")
    with pytest.raises(DataFileError, match=r"test has other class folders than .*train: 1 more \(zebra\)$"):
        check_own_pictures("imagefolder", str(tmp_path))


@pytest.mark.parametrize("where", ["train/class 1", "test/class 0", "ood/near/paintings"])
def test_corrupt_pictures_are_counted_and_the_first_is_named(where: str, tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    folder = tmp_path / where
    (folder / "b.png").write_bytes(b"not a picture")
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(DataFileError) as caught:
        check_own_pictures("imagefolder", str(tmp_path))
    assert str(caught.value).startswith(f"{folder}/a.png is not a whole picture: ")
    assert str(caught.value).endswith(" (and 1 more of 55 pictures cannot be used)")


def test_a_large_folder_is_sampled_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock passes the limit after the first batch of 8."""
    monkeypatch.setattr("trainables.data.loading.own_pictures._BATCH", 8)
    disk_formats.imagefolder(tmp_path)
    times = iter([0.0, 1.0, 21.0])
    notes = check_own_pictures("imagefolder", str(tmp_path), clock=lambda: next(times))
    assert notes[1:] == [
        "imagefolder: 8 of 53 pictures were looked into, a random sample; all of them are whole"
    ]


def test_published_data_sets_are_not_opened() -> None:
    assert check_own_pictures("cifar10", "/nowhere") == []
