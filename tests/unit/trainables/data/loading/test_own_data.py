"""What is found in a user's own pictures before anything starts, and what is only worth a note."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import disk_formats
from trainables.base.errors import DataFileError
from trainables.data.loading.open_dataset import load
from trainables.data.loading.own_data import check_own_data, examine
from trainables.data.types.dataset_spec import OodRoles
from trainables.data.types.lazy_images import fit
from trainables.data.types.read_picture import read_picture
from trainables.data.types.splits import Split

FEW = "imagefolder: {} validation images{}, a tenth of those to train on; with so few, the best trial of a search is "


ENLARGED = (
    "imagefolder: no picture is larger than 16 pixels at its shorter side, and all are enlarged to 64 x 64; "
    '"side": 16 in dataset.json takes them as they are'
)
SMALL = [
    "imagefolder: 12 test images; an accuracy of 90 % is known to ± 17 points at best",
    "imagefolder: OOD sets of under 50 images, of which little can be told: paintings (5), maps (6)",
    ENLARGED,
]


def test_few_images_are_notes_with_their_number(tmp_path: Path) -> None:
    """1.96 sqrt(0.9 x 0.1 / 12) is 17 points."""
    disk_formats.imagefolder(tmp_path, train=10)
    notes = check_own_data("imagefolder", str(tmp_path))
    assert notes == [f"{FEW.format(3, '')}largely chance", *SMALL]
    disk_formats.picture(tmp_path / "train" / "class 3" / "only.png")
    disk_formats.picture(tmp_path / "test" / "class 3" / "only.png", seed=77)
    notes = check_own_data("imagefolder", str(tmp_path))
    assert notes[0] == f"{FEW.format(3, ', none of 1 of the 4 classes')}largely chance"


def test_classes_of_very_different_size_are_a_note(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, classes=2, train=30)
    for number in range(27):
        (tmp_path / "train" / "class 1" / f"class 1_{number}.png").unlink()
    balance = [n for n in check_own_data("imagefolder", str(tmp_path)) if "unbalanced" in n]
    assert balance == [
        "imagefolder: unbalanced: 27 images of class 'class 0' to train on, 3 of 'class 1'; accuracy counts each image "
        "alike; --set balance=weights or balance=sampling trains on all classes alike"
    ]


def test_fifty_validation_images_of_every_class_need_no_note(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, classes=2, train=250, test=50)
    disk_formats.tree(tmp_path / "ood" / "near", ["paintings"], 50, seed=3900, suffix=".png")
    disk_formats.tree(tmp_path / "ood" / "far", ["maps"], 50, seed=3950, suffix=".png")
    assert check_own_data("imagefolder", str(tmp_path)) == [ENLARGED]


def test_validation_pictures_of_its_own_are_read(tmp_path: Path) -> None:
    """With val/ and test/ nothing is held out of train/; without test/ it is, and val/ is the test."""
    disk_formats.imagefolder(tmp_path)
    disk_formats.tree(tmp_path / "val", [f"class {c}" for c in range(3)], 2, seed=700, suffix=".png")
    data = load("imagefolder", str(tmp_path))
    assert [len(data.labelled(split)) for split in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)] == [30, 6, 12]
    picture = fit(read_picture(tmp_path / "val" / "class 1" / "class 1_0.png"), (3, 64, 64))
    found = data.labelled(Split.VAL_ID)
    (place,) = [n for n, image in enumerate(found.images) if np.array_equal(image, picture)]
    assert found.labels[place] == 1
    notes = check_own_data("imagefolder", str(tmp_path))
    assert notes[0].startswith("imagefolder: 6 validation images; with so few, ")
    shutil.rmtree(tmp_path / "test")
    notes = check_own_data("imagefolder", str(tmp_path))
    assert notes[0].startswith("imagefolder: 3 validation images, a tenth of those to train on; ")
    assert notes[-1] == f"{tmp_path} has no test/: val/ is the test, and validation is held out of train/"
    assert len(load("imagefolder", str(tmp_path)).labelled(Split.TEST_ID)) == 6


def test_own_validation_ood_joins_the_made_sets(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    disk_formats.tree(tmp_path / "ood" / "val", ["sketches"], 4, seed=980)
    data = load("imagefolder", str(tmp_path), search_only=True)
    assert list(data.sets(Split.VAL_OOD_NEAR)) == [*OodRoles((), ()).validation_near, "sketches"]
    assert list(data.sets(Split.VAL_OOD_FAR)) == list(OodRoles((), ()).validation_far)
    assert (data.sets(Split.VAL_OOD_NEAR)["sketches"].labels == -1).all()
    assert len(data.sets(Split.VAL_OOD_NEAR)["sketches"]) == 4
    assert "sketches" not in load("imagefolder", str(tmp_path)).sets(Split.TEST_OOD_FAR)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (
            "ood/near/paintings/paintings_0.jpg",
            "ood/val/s",
            "near OOD paintings are in near validation OOD s too",
        ),
        ("train/class 0/class 0_1.png", "ood/val/s", "near validation OOD s are in train too"),
    ],
)
def test_what_search_has_seen_is_no_test(source: str, target: str, said: str, tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    (tmp_path / target).mkdir(parents=True)
    shutil.copy(tmp_path / source, tmp_path / target / "x.jpg")
    with pytest.raises(DataFileError, match=said):
        check_own_data("imagefolder", str(tmp_path))


def test_pictures_outside_of_a_class_are_refused(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    for name in ("b.png", "a.png"):
        disk_formats.picture(tmp_path / "train" / name)
    with pytest.raises(DataFileError) as caught:
        check_own_data("imagefolder", str(tmp_path))
    train = tmp_path / "train"
    assert str(caught.value) == (
        f"{train} holds a.png and 1 more pictures outside of a class; put them into {train}/<class>/"
    )


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    for part in ("train", "test"):
        (tmp_path / part / "class 1b").mkdir()
    with pytest.raises(DataFileError, match=r"train/class 1b holds no picture \("):
        check_own_data("imagefolder", str(tmp_path))


def test_what_nothing_reads_is_told(tmp_path: Path) -> None:
    """Folders of another name, and photographs in a format that is not read."""
    disk_formats.imagefolder(tmp_path)
    for name in ("validation/class 0/a.png", "valid/b.png", "c.png", "odd/d.png"):
        disk_formats.picture(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no picture")
    for name in ("1.HEIC", "2.heic", "list.txt", "README"):
        (tmp_path / "train" / "class 0" / name).write_bytes(b"")
    notes = check_own_data("imagefolder", str(tmp_path))
    assert notes[-2:] == [
        f"{tmp_path} holds pictures that nothing reads (odd/, valid/, validation/ and 1 more); what is read: train/, "
        "val/, test/, ood/",
        f"{tmp_path}/train holds 4 other files (2 .heic, 1 without an ending, 1 .txt): no pictures that are read",
    ]


def test_copies_within_a_set_are_told_and_whether_their_classes_agree(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, train=12)
    train = tmp_path / "train"
    test = tmp_path / "test" / "class 0"
    shutil.copy(test / "class 0_0.png", test / "class 0_9.png")
    shutil.copy(test / "class 0_1.png", tmp_path / "test" / "class 2" / "other.png")
    notes = check_own_data("imagefolder", str(tmp_path))
    assert [note.partition(" (")[0] for note in notes if "are copies" in note] == [
        "2 of 14 images of test are copies of others in it",
        "1 of 14 images of test are copies of others in it, of another class",
    ]
    assert train.is_dir()


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    (tmp_path / "train" / "class 0" / "torn.jpg").write_bytes(b"")
    shutil.copy(tmp_path / "train/class 0/class 0_1.png", tmp_path / "test/class 1/copied.png")
    found = examine("imagefolder", str(tmp_path))
    assert [problem.partition(" (")[0] for problem in found.problems] == [
        "1 of 13 images of test are in train too",
        f"{tmp_path}/train/class 0/torn.jpg is empty",
    ]
    assert found.looked_into == (55, 55)


def test_what_is_no_file_is_told_or_left_out(tmp_path: Path) -> None:
    """A link to nothing, and a pipe, which would be waited for for ever."""
    disk_formats.imagefolder(tmp_path)
    link = tmp_path / "train" / "class 0" / "link.png"
    link.symlink_to("/nowhere/x.png")
    for folder in ("train/class 0", "train", "ood/near/paintings"):
        os.mkfifo(tmp_path / folder / "pipe.png")
    found = examine("imagefolder", str(tmp_path))
    assert found.problems == [f"{link} is a link to /nowhere/x.png, which is not there"]
    assert found.looked_into == (54, 54)


def test_one_picture_a_class_is_refused_with_the_numbers(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path, train=1)
    with pytest.raises(
        DataFileError, match=r"3 training images of 3 classes, 1 in the smallest .* leave none for validation"
    ):
        check_own_data("imagefolder", str(tmp_path))


def test_a_class_in_the_test_folder_alone_is_named(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    disk_formats.picture(tmp_path / "test" / "zebra" / "a.png")
    with pytest.raises(DataFileError, match=r"test has other class folders than .*train: 1 more \(zebra\)$"):
        check_own_data("imagefolder", str(tmp_path))


@pytest.mark.parametrize("where", ["train/class 1", "test/class 0", "ood/near/paintings"])
def test_corrupt_pictures_are_counted_and_the_first_is_named(where: str, tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    folder = tmp_path / where
    (folder / "b.png").write_bytes(b"not a picture")
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(DataFileError) as caught:
        check_own_data("imagefolder", str(tmp_path))
    assert str(caught.value).startswith(f"{folder}/a.png is empty (and 1 more of ")
    assert str(caught.value).endswith(" (and 1 more of 55 images cannot be used)")


def test_a_large_folder_is_sampled_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock passes the limit after the first batch of 8."""
    monkeypatch.setattr("trainables.data.loading.own_data._BATCH", 8)
    disk_formats.imagefolder(tmp_path)
    times = iter([0.0, 1.0, 21.0])
    notes = check_own_data("imagefolder", str(tmp_path), clock=lambda: next(times))
    assert notes[3:] == [
        ENLARGED,
        "imagefolder: 8 of 53 images were looked into, a random sample; all of them are whole",
    ]


def test_published_data_sets_are_not_opened() -> None:
    assert check_own_data("cifar10", "/nowhere") == []


def test_deep_transparent_and_rotated_pictures_reach_the_network_as_they_are_meant(tmp_path: Path) -> None:
    """By hand, at the size of the pictures: 32896 of 65535 is 128; red that is all transparent is white, half (128 of
    255) of it pink, 255 - 128 = 127; a photograph that lies on its side (orientation 6) has its left half on top."""
    disk_formats.imagefolder(tmp_path, classes=2)
    (tmp_path / "dataset.json").write_text('{"side": 16}')
    folder = tmp_path / "test" / "class 0"
    shutil.rmtree(folder)
    folder.mkdir()
    Image.fromarray(np.full((16, 16), 32896, np.uint16)).save(folder / "deep.png")
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGBA", (16, 16), (255, 0, 0, 128)).save(folder / "half.png")
    photograph = Image.new("RGB", (16, 16), (255, 255, 255))
    photograph.paste((0, 0, 0), (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(folder / "turned.jpg", exif=exif, quality=95)

    assert check_own_data("imagefolder", str(tmp_path))
    test = load("imagefolder", str(tmp_path)).labelled(Split.TEST_ID)
    corners = [tuple(image[:, 2, 2].tolist()) for image in test.images[test.labels == 0]]
    assert sorted(corners)[1:] == [(128, 128, 128), (255, 127, 127), (255, 255, 255)]
    (turned,) = [image for image in test.images[test.labels == 0] if image[0, 2, 2] < 20]
    assert turned[:, :6].max() < 20
    assert turned[:, 10:].min() > 235


def test_an_array_that_cannot_be_used_is_one_problem(tmp_path: Path) -> None:
    """It is read in blocks, so that nobody knows how many of its images are wrong."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    arrays = {
        "train_images": rng.normal(size=(600, 8, 8)) * 100,
        "train_labels": labels,
        "test_images": rng.integers(0, 256, (600, 8, 8), np.uint8),
        "test_labels": labels,
    }
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    (problem,) = examine(f"npz:{tmp_path}/mine.npz", "").problems
    assert problem.startswith(f"train_images of {tmp_path}/mine.npz: image ")
    assert problem.endswith("networks do that (and others cannot be used)")


def test_pictures_of_the_size_they_are_taken_in_need_no_note(tmp_path: Path) -> None:
    """One picture that is as large is enough: the others are enlarged to it."""
    disk_formats.imagefolder(tmp_path, train=10)
    (tmp_path / "dataset.json").write_text('{"side": 16}')
    assert ENLARGED not in check_own_data("imagefolder", str(tmp_path))
    (tmp_path / "dataset.json").unlink()
    disk_formats.picture(tmp_path / "train" / "class 1" / "large.png", 80, 64)
    assert not any("enlarged" in note for note in check_own_data("imagefolder", str(tmp_path)))


@pytest.mark.parametrize(
    ("count", "strip", "said"),
    [
        # the largest by area is no measure: the others are larger where it counts
        (1, 1, '"side": 16 in dataset.json takes them as they are'),
        # every picture a strip of 2 pixels: 4 is the least that dataset.json may say
        (12, 2, '"side": 4 in dataset.json enlarges them least'),
    ],
)
def test_the_side_that_is_advised_is_one_that_is_taken(
    tmp_path: Path, count: int, strip: int, said: str
) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            for number in range(6):
                size = (600, strip) if part == "train" and number < count else (16, 16)
                disk_formats.picture(tmp_path / part / name / f"{number}.png", *size, seed=number)
    (note,) = [note for note in check_own_data("imagefolder", str(tmp_path), True) if "enlarged" in note]
    assert note.endswith(said)
    (tmp_path / "dataset.json").write_text("{" + note.partition("; ")[2].partition(" in ")[0] + "}")
    assert not any("enlarged" in note for note in check_own_data("imagefolder", str(tmp_path), True))
