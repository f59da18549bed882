"""Readers of each data set's own files: pictures and labels. No torch.

torchvision reads CIFAR with an unrestricted `pickle.load` and refuses every file that is not the published
one; so its classes download here (`download.py`), and reading is ours. A test compares the two.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainables.base.errors import DataFileError
from trainables.base.registry import resolve_reference
from trainables.data.readers.array_readers import read_cifar, read_idx, read_mat, read_svhn
from trainables.data.types.file_check import find_folder
from trainables.data.types.lazy_images import ArraySource, FileSource, Source
from trainables.data.types.ood_sets import files_of
from trainables.data.types.picture_files import (
    SUFFIXES,
    class_folders,
    loose_pictures,
    picture_files,
    pictures_by_class,
)

Array = np.ndarray


@dataclass(frozen=True)
class Pictures:
    """Pictures and labels as a reader returns them.

    Attributes:
        source: the pictures in their own size.
        labels: (n,) int64; -1 where the set has none.
        sorted: they lie sorted by class, so that the first n are not a sample of all classes.
    """

    source: Source
    labels: Array
    sorted: bool


def read(name: str, data_dir: str, part: str, classes: int = 0) -> Pictures:
    """Read a part of a data set.

    Args:
        name: of a data set with files or of an OOD set.
        part: "train", "test", or "val" where there is one; OOD sets have "test" only, which for DTD and EuroSAT is all
            there is.
        classes: how many class folders there must be; 0: any number.

    Raises:
        DataFileError: a file is missing, damaged or not in the documented format; one line that names it.
    """
    files, root = files_of(name), find_folder(name, data_dir, part)
    if root is None:
        raise DataFileError(f"{name} is not in {data_dir}; put {files.put} of it")
    pictures: Pictures = resolve_reference(files.reader)(root, part, classes)
    if not len(pictures.source):
        raise DataFileError(f"{root} holds no pictures of {name}; put {files.put} of {data_dir}")
    return pictures


def read_folder(folder: Path) -> Pictures:
    """Return every picture below a folder, without labels."""
    return _of_files(folder, picture_files(folder))


def class_tree(folder: Path, classes: int, inner: str = "") -> Pictures:
    """Return the pictures of class folders, labelled by the sorted order of the folders' names.

    Args:
        classes: how many there must be; 0: any number.
        inner: a folder inside each class folder that holds the pictures, if it is there.

    Raises:
        DataFileError: another number of class folders, or one without a picture.
    """
    found = pictures_by_class(folder, inner)
    if classes and len(found) != classes:
        hint = " (pictures must lie in class folders)" if not found else ""
        raise DataFileError(f"{folder} has {len(found)} class folders; want {classes}{hint}")
    names: list[str] = []
    labels: list[int] = []
    for label, (one, files) in enumerate(found.items()):
        if not files:
            raise DataFileError(f"{folder / one} holds no picture ({', '.join(sorted(SUFFIXES))})")
        names += files
        labels += [label] * len(files)
    return Pictures(FileSource(folder, names), np.array(labels, np.int64), sorted=True)


def cifar10(root: Path, part: str, classes: int) -> Pictures:
    names = tuple(f"data_batch_{i}" for i in range(1, 6)) if part == "train" else ("test_batch",)
    images, labels = read_cifar(root, names, "labels", 10)
    return Pictures(ArraySource(images), labels, sorted=False)


def cifar100(root: Path, part: str, classes: int) -> Pictures:
    images, labels = read_cifar(root, (part,), "fine_labels", 100)
    return Pictures(ArraySource(images), labels, sorted=False)


def mnist(root: Path, part: str, classes: int) -> Pictures:
    """Return MNIST or FashionMNIST, padded with two black pixels on every side to 32 x 32."""
    images, labels = read_idx(root, "train" if part == "train" else "t10k")
    return Pictures(ArraySource(np.pad(images, ((0, 0), (2, 2), (2, 2)))), labels, sorted=False)


def svhn(root: Path, part: str, classes: int) -> Pictures:
    images, labels = read_svhn(root / f"{part}_32x32.mat")
    return Pictures(ArraySource(images), labels, sorted=False)


def food101(root: Path, part: str, classes: int) -> Pictures:
    path, by_class = _food101_list(root, part)
    if classes and len(by_class) != classes:
        raise DataFileError(f"{path} lists {len(by_class)} classes; want {classes}")
    names = [_inside(path, name) for names in by_class.values() for name in names]
    counts = [len(names) for names in by_class.values()]
    labels = np.repeat(np.arange(len(by_class)), counts).astype(np.int64)
    return Pictures(FileSource(root / "images", names), labels, sorted=True)


def food101_classes(root: Path) -> list[str]:
    return list(_food101_list(root, "train")[1])


def _food101_list(root: Path, part: str) -> tuple[Path, dict[str, list[str]]]:
    """Return the list of a part and what is in it: {class: names of its pictures}, in the order of the labels."""
    path = root / "meta" / f"{part}.json"
    try:
        listed: Any = json.loads(path.read_text())
        if not isinstance(listed, dict):
            raise ValueError("it holds no names by class")
        by_class = {str(c): [f"{name}.jpg" for name in listed[c]] for c in sorted(listed)}
        whole = all(isinstance(name, str) for names in listed.values() for name in names)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataFileError(f"{path} is not a whole json file: {_line(error)}") from error
    if not whole or any(not names for names in by_class.values()):
        raise DataFileError(f"{path}: want {{class: [names of its pictures]}}")
    return path, by_class


def train_folders(root: Path) -> list[str]:
    """Return the names of the class folders in train/, which are those of the classes."""
    return class_folders(root / "train")


def tiny_imagenet(root: Path, part: str, classes: int) -> Pictures:
    train = class_tree(root / "train", classes, "images")
    if part == "train":
        return train
    path = root / "val" / "val_annotations.txt"
    label_of = {wnid: label for label, wnid in enumerate(class_folders(root / "train"))}
    rows = [line.split() for line in _text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in label_of:
            raise DataFileError(
                f"{path}, line {number}: want a picture, one of the {len(label_of)} wnids, a box"
            )
    names = [_inside(path, row[0]) for row in rows]
    labels = np.array([label_of[row[1]] for row in rows], np.int64)
    return Pictures(FileSource(root / "val" / "images", names), labels, sorted=False)


def imagenet(root: Path, part: str, classes: int) -> Pictures:
    return _split_tree(root, "train" if part == "train" else "val", classes)


def imagefolder(root: Path, part: str, classes: int) -> Pictures:
    """Return the class folders of a split; without test/ those of val/ are the test."""
    split = "val" if part == "test" and not (root / "test").is_dir() else part
    loose = loose_pictures(root / split)
    if loose:
        more = f" and {len(loose) - 1} more pictures" if len(loose) > 1 else ""
        raise DataFileError(
            f"{root / split} holds {loose[0]}{more} outside of a class; put them into {root / split}/<class>/"
        )
    return _split_tree(root, split, classes)


def _split_tree(root: Path, split: str, classes: int) -> Pictures:
    known, found = class_folders(root / "train"), class_folders(root / split)
    if found != known:
        extra, lacking = sorted(set(found) - set(known)), sorted(set(known) - set(found))
        words = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("more", extra), ("missing", lacking))
            if names
        ]
        raise DataFileError(
            f"{root / split} has other class folders than {root / 'train'}: {', '.join(words)}"
        )
    return class_tree(root / split, classes)


def dtd(root: Path, part: str, classes: int) -> Pictures:
    return read_folder(root / "images")


def flowers102(root: Path, part: str, classes: int) -> Pictures:
    """Return the 6,149 pictures of the test split, whose key in the file is tstid."""
    path = root / "setid.mat"
    rows = read_mat(path, ("tstid",))["tstid"].ravel()
    labels = read_mat(root / "imagelabels.mat", ("labels",))["labels"].ravel()
    if rows.dtype.kind not in "iu" or not len(rows) or rows.min() < 1 or rows.max() > len(labels):
        raise DataFileError(
            f"{path}: tstid must be numbers from 1 to {len(labels)}, those of imagelabels.mat"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 1 or labels.max() > 102:
        raise DataFileError(f"{root / 'imagelabels.mat'}: labels must be integers from 1 to 102")
    names = [f"image_{row:05d}.jpg" for row in rows.tolist()]
    return Pictures(FileSource(root / "jpg", names), labels[rows - 1].astype(np.int64) - 1, sorted=True)


def oxford_pet(root: Path, part: str, classes: int) -> Pictures:
    path = root / "annotations" / "test.txt"
    rows = [line.split() for line in _text(path).splitlines() if line.strip() and line[0] != "#"]
    for number, row in enumerate(rows, 1):
        if len(row) != 4 or not row[1].isdigit():
            raise DataFileError(f"{path}, entry {number}: want a name and three numbers")
    names = [_inside(path, f"{row[0]}.jpg") for row in rows]
    return Pictures(
        FileSource(root / "images", names), np.array([int(row[1]) - 1 for row in rows], np.int64), sorted=True
    )


def eurosat(root: Path, part: str, classes: int) -> Pictures:
    return class_tree(root, classes)


def fooling(root: Path, part: str, classes: int) -> Pictures:
    """Return the 10,000 images of the last generation; the archive keeps the earlier ones too."""
    names = picture_files(root)
    last = [name for name in names if "map_gen_5000/" in name]
    return _of_files(root, last or names)


def all_pictures(root: Path, part: str, classes: int) -> Pictures:
    """Return every picture below a folder, without labels."""
    return read_folder(root)


def _of_files(root: Path, names: list[str]) -> Pictures:
    return Pictures(FileSource(root, names), np.full(len(names), -1, np.int64), sorted=True)


def _inside(path: Path, name: str) -> str:
    """Return a name that a list file gives, if it stays inside the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DataFileError(f"{path} names {name!r}, which is outside its folder")
    return name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path} cannot be read: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
