"""Which files of a folder are pictures, whatever lies beside them and wherever links lead."""

import os
from pathlib import Path

import pytest

from trainables.base.errors import DataFileError
from trainables.data.types.picture_files import (
    class_folders,
    picture_files,
    pictures_by_class,
)

COMPANIONS = ("@eaDir", "__MACOSX", ".hidden", "#recycle", "$RECYCLE.BIN", "System Volume Information")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_pictures_of_all_folders_below_without_companions(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPEG", "a.jpg", "b/1.png", "b/c/3.TIF", "notes.txt", "b/labels.csv")
    touch(tmp_path, "._a.jpg", ".DS_Store", "Thumbs.db", "b/._1.png", "b/.a.jpg")
    touch(tmp_path, *(f"b/{name}/SYNOPHOTO_THUMB_M.jpg" for name in COMPANIONS))
    assert picture_files(tmp_path) == ["a.jpg", "b/1.png", "b/2.JPEG", "b/c/3.TIF"]


def test_companions_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/1.png" for name in ("cat", "ant", *COMPANIONS)), ".DS_Store", "1.png")
    assert class_folders(tmp_path) == ["ant", "cat"]
    assert pictures_by_class(tmp_path) == {"ant": ["ant/1.png"], "cat": ["cat/1.png"]}


@pytest.mark.parametrize("target", [".", "..", "../..", "../dog", "../dog/puppies", "deep"])
def test_a_link_inside_a_class_brings_no_picture_twice_and_none_of_another_class(
    target: str, tmp_path: Path
) -> None:
    root = tmp_path / "train"
    touch(root, "cat/1.png", "cat/deep/2.png", "dog/3.png", "dog/puppies/4.png")
    (root / "cat" / "link").symlink_to(target)
    expected = {"cat": ["cat/1.png", "cat/deep/2.png"], "dog": ["dog/3.png", "dog/puppies/4.png"]}
    assert pictures_by_class(root) == expected
    assert picture_files(root / "cat")[:2] == ["1.png", "deep/2.png"]


@pytest.mark.parametrize("target", [".", "..", "cat", "cat/deep"])
def test_a_link_among_the_classes_is_no_class_of_its_own(target: str, tmp_path: Path) -> None:
    root = tmp_path / "train"
    touch(root, "cat/1.png", "cat/deep/2.png", "dog/3.png")
    (root / "all").symlink_to(target)
    assert list(pictures_by_class(root)) == ["cat", "dog"]


def test_links_to_other_places_are_followed_once(tmp_path: Path) -> None:
    """A class that lies on another disk, one of its folders linked twice, and a link back up there."""
    root, store = tmp_path / "train", tmp_path / "store" / "dog"
    touch(root, "cat/1.png")
    touch(store, "3.png", "more/4.png")
    touch(tmp_path, "elsewhere/5.png", "store/other/6.png")
    (root / "dog").symlink_to(store)
    (store / "up").symlink_to("..")
    (store / "a").symlink_to(tmp_path / "elsewhere")
    (store / "b").symlink_to(tmp_path / "elsewhere")
    found = pictures_by_class(root)
    assert [os.path.basename(name) for name in found["dog"]] == ["3.png", "5.png", "4.png"]
    assert found["cat"] == ["cat/1.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"nowhere cannot be listed: No such file or directory"):
        picture_files(tmp_path / "nowhere")
