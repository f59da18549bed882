"""Data sets of arrays, `npz:FILE`: one npz file, or a folder of npy files, with arrays of known names. No torch.

docs/own_data.md has the names. Nothing but headers, labels and names is read here; pickles are never loaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.base.errors import DataFileError, nearest
from trainables.data.readers.array_pictures import ArrayFile, ArrayPictures
from trainables.data.readers.image_readers import Pictures
from trainables.data.readers.npz_arrays import Header, array_of_file, check_whole_npy, npy_header, npz_headers
from trainables.data.readers.own_sets import (
    OOD_SPLITS,
    OwnSets,
    check_count,
    check_names,
    check_side,
    class_count,
    names_in,
    normalisation,
    numbered,
)
from trainables.data.types.datasets import DATASETS
from trainables.data.types.own_datasets import ARRAYS, array_path
from trainables.data.types.own_ood import check_ood_name, check_ood_twins
from trainables.data.types.picture_files import is_companion
from trainables.data.types.splits import DatasetInfo, Split

Array = np.ndarray

PARTS = {"train": Split.TRAIN, "val": Split.VAL_ID, "test": Split.TEST_ID}
NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
VALIDATION = ("val_images", "val_labels")
FACTS = ("class_names", "mean", "std")
KNOWN = (*(f"{part}_{what}" for part in PARTS for what in ("images", "labels")), *FACTS)
_OOD = re.compile(r"ood_(near|far|val)_(.+)")
_LOOKS_LIKE_DATA = re.compile(r"(train|val|test|ood|near|far|class|x_|y_)", re.IGNORECASE)


def own_arrays(name: str, data_dir: str = "") -> OwnSets:
    """Return what an npz file or a folder of npy files holds.

    Args:
        name: `npz:PATH`.
        data_dir: not used.

    Raises:
        DataFileError: no such file, an array that is missing, not known, or not what its name says; one line.
    """
    path = Path(array_path(name))
    return _read(name, path, tuple(_state(path)))


def _state(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, size, time) of the files that are read, so that a change of one is noticed."""
    for file in _files(path) if path.is_dir() else [path]:
        try:
            found = file.stat()
        except OSError as error:
            raise DataFileError(f"{ARRAYS}{file}: {error.strerror or error}") from error
        yield file.name, found.st_size, found.st_mtime_ns


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.npy") if not is_companion(file.name))


class _Arrays:
    """The arrays of a file or folder by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, Path] = {}
        if path.is_dir():
            self._files = {file.stem: file for file in _files(path)}
            self.headers: Mapping[str, Header] = {
                name: npy_header(file) for name, file in self._files.items()
            }
        else:
            self.headers = npz_headers(path)
        for name, (_, dtype) in self.headers.items():
            if dtype.hasobject:
                raise DataFileError(f"{self.place(name)} holds pickled objects, which are never loaded")
        for file in self._files.values():
            check_whole_npy(file)

    def place(self, name: str) -> str:
        return str(self._files[name]) if self._files else f"{name} of {self.path}"

    def read(self, name: str) -> Array:
        """Return a small array."""
        file = self._files.get(name)
        return np.array(array_of_file(file or self.path, "" if file else name))

    def pictures(self, name: str) -> ArrayPictures:
        file = self._files.get(name)
        shape, dtype = self.headers[name]
        return ArrayPictures(
            self.place(name), ArrayFile(file or self.path, "" if file else name), shape, dtype
        )


@lru_cache(maxsize=4)
def _read(name: str, path: Path, state: tuple[tuple[str, int, int], ...]) -> OwnSets:
    arrays = _Arrays(path)
    unused = _check_known(arrays)
    images = {part: arrays.pictures(f"{part}_images") for part in PARTS if f"{part}_images" in arrays.headers}
    labels, classes, count = _labels(arrays, {part: len(pictures) for part, pictures in images.items()})
    sets: dict[Split, dict[str, Pictures]] = {
        PARTS[part]: {"id": Pictures(pictures, labels[part], _is_sorted(labels[part]))}
        for part, pictures in images.items()
    }
    for group, names in _ood_names(name, arrays).items():
        if names:
            sets[OOD_SPLITS[group]] = {
                ood: _unlabelled(arrays.pictures(f"ood_{group}_{ood}")) for ood in names
            }
    shape = images["train"].shape
    check_side(shape, arrays.place("train_images"))
    mean, std = normalisation(
        lambda key: arrays.read(key) if key in arrays.headers else None,
        shape[0],
        DATASETS[name].info,
        str(path),
    )
    info = DatasetInfo(name, count, shape, mean, std, builtin=True, classes=classes)
    notes = (f"{path}: {', '.join(unused)} are arrays that nothing reads",) if unused else ()
    return OwnSets(info, sets, notes)


def _check_known(arrays: _Arrays) -> list[str]:
    """Return the arrays that have other purposes.

    Raises:
        DataFileError: one is missing, or one looks as if it should be read and is not.
    """
    unused = []
    for name in arrays.headers:
        if name in KNOWN or _OOD.fullmatch(name):
            continue
        if _LOOKS_LIKE_DATA.match(name):
            raise DataFileError(
                f"{arrays.place(name)} is not read under that name; {nearest(name, KNOWN)} "
                "(OOD sets are ood_near_NAME, ood_far_NAME and ood_val_NAME)"
            )
        unused.append(name)
    validation = VALIDATION if set(VALIDATION) & arrays.headers.keys() else ()
    missing = [name for name in (*NEEDED, *validation) if name not in arrays.headers]
    if missing:
        held = ", ".join(arrays.headers) or "no array"
        raise DataFileError(f"{arrays.path} lacks {', '.join(missing)}; it holds {held}")
    return unused


def _labels(arrays: _Arrays, counts: Mapping[str, int]) -> tuple[dict[str, Array], tuple[str, ...], int]:
    """Return {part: labels}, the names of the classes, and their number."""
    for part, count in counts.items():  # before they are read: a wrong array may be of any size
        check_count(arrays.headers[f"{part}_labels"][0], count, arrays.place(f"{part}_labels"))
    raw = {part: arrays.read(f"{part}_labels") for part in counts}
    names = _class_names(arrays, raw["train"])
    labels = {
        part: numbered(raw[part], count, arrays.place(f"{part}_labels"), names)
        for part, count in counts.items()
    }
    return labels, names, class_count({arrays.place(f"{p}_labels"): v for p, v in labels.items()}, names)


def _class_names(arrays: _Arrays, train: Array) -> tuple[str, ...]:
    """Return the names of the classes: those that the file gives, else those that label the training images."""
    if "class_names" in arrays.headers:
        place, given = arrays.place("class_names"), arrays.read("class_names")
        if given.dtype.kind != "U" or given.ndim != 1:
            raise DataFileError(f"{place} is {given.dtype} of {given.ndim} axes; want a list of texts")
        return check_names(given.tolist(), place)
    return names_in(train)


def _ood_names(name: str, arrays: _Arrays) -> dict[str, list[str]]:
    """Return {"near": names of the OOD sets, "far": ..., "val": ...}."""
    found: dict[str, list[str]] = {group: [] for group in OOD_SPLITS}
    for array in sorted(arrays.headers):
        if match := _OOD.fullmatch(array):
            group, ood = match.groups()
            check_ood_name(DATASETS[name], group, ood, arrays.place(array), "the array")
            found[group].append(ood)
    check_ood_twins(found, lambda group, ood: arrays.place(f"ood_{group}_{ood}"))
    return found


def _unlabelled(pictures: ArrayPictures) -> Pictures:
    return Pictures(pictures, np.full(len(pictures), -1, np.int64), sorted=True)


def _is_sorted(labels: Sequence[int] | Array) -> bool:
    """Return whether images lie by class, so that the first ones are not a sample of all."""
    return bool((np.diff(labels) >= 0).all())
