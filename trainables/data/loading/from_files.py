"""Load a data set from files: splits, validation hold-out, OOD sets, corrupted test sets. No torch.

Validation images are held out of the training images: the first 1024 for CIFAR (the convention of DyART and of
robust-training code), else a stratified draw of a fixed seed; never more than a tenth. The official test set
(or, where that has no labels, the official validation set) is the test split.
"""

import warnings
from pathlib import Path

import numpy as np

from trainables.base.seeds import derive_seed
from trainables.data.download import ensure
from trainables.data.readers.corrupted_files import corrupted_sets, lacking_of
from trainables.data.readers.image_readers import Pictures, read, read_folder
from trainables.data.synthetic.corruptions_imagenet import MANIFEST
from trainables.data.synthetic.hold_out import hold_out_corruptions
from trainables.data.synthetic.made_ood import noise_set, validation_sets
from trainables.data.types.availability import lacking_line, missing_ood, published_folder, regenerated_line
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.dataset_spec import DatasetSpec, HoldOut
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import class_folders, find, local
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.made_sets import NOISE_N, NOISES
from trainables.data.types.splits import DatasetInfo, Origin, Split

Array = np.ndarray

#: Above so many bytes, all splits together, images stay files and are decoded when used.
IN_MEMORY_BYTES = 4 * 2**30


class MissingDataWarning(UserWarning):
    """Some OOD sets of a data set are not on disk and are left out."""


def load(name: str, data_dir: str, search_only: bool = False) -> Benchmark:
    """Return a data set read from files; the ID set is downloaded first if it is missing and can be.

    Images are uint8 (n, c, h, w), in memory if all splits together fit into `IN_MEMORY_BYTES`, else lazy
    (`LazyImages`). Validation OOD is made of the first 1024 validation images (256 above 64 pixels). Sets
    that lie sorted by class are put into one fixed random order, so that the first n images are a sample of
    all. OOD sets are never downloaded here; what is missing is left out, and one warning says what to put
    where.

    Args:
        search_only: read only the splits that a search may open.

    Raises:
        DataFileError: the ID set's files are missing and cannot be fetched, or a file that is there is
            damaged or in another format.
    """
    ensure(name, local(name, data_dir))
    spec, info = DATASETS[name], dataset_info(name, data_dir)
    train = read(name, data_dir, "train", info.num_classes)
    order = np.arange(len(train.labels))
    held = held_out(train.labels, spec.hold_out, name)
    rest = np.setdiff1d(order, held)
    if train.sorted:
        rest, held = _mixed(rest, name, "train"), _mixed(held, name, "val_id")
    parts: dict[Split, dict[str, LabelledImages]] = {
        Split.TRAIN: {"id": _images(train, info, rest, spec.crop)},
        Split.VAL_ID: {"id": _images(train, info, held, spec.crop)},
    }
    corrupted: dict[str, LabelledImages] = {}
    notes: list[str] = []
    if not search_only:
        test = read(name, data_dir, "test", info.num_classes)
        parts[Split.TEST_ID] = {"id": _images(test, info, _rows(test, name, "test"), spec.crop)}
        parts |= _ood_splits(spec, info, data_dir)
        lacking = missing_ood(spec.roles.tested, name, data_dir) if spec.roles else []
        if lacking:
            notes.append(lacking_line(name, lacking, data_dir))
            warnings.warn(notes[-1], MissingDataWarning, stacklevel=2)
        corrupted = corrupted_sets(spec, info, data_dir, _class_names(spec, data_dir))
        notes += _corrupted_notes(info, data_dir, corrupted)
    if sum(_bytes(data) for sets in parts.values() for data in sets.values()) <= IN_MEMORY_BYTES:
        parts = {split: {of: in_memory(data) for of, data in sets.items()} for split, sets in parts.items()}
    validation, large = parts[Split.VAL_ID]["id"], info.shape[-1] > 64
    base = _first(validation, 256 if large else 1024)
    parts[Split.VAL_OOD] = validation_sets(name, _validation_names(spec, info), base)
    parts[Split.VAL_CORRUPTED] = hold_out_corruptions(name, _first(base, 128 if large else 1024))
    if not corrupted:
        return Benchmark(info, parts, notes=tuple(notes))
    parts[Split.CORRUPTED] = corrupted
    made = (_published(info, data_dir) / MANIFEST).is_file()
    origin = Origin.REGENERATED if made else Origin.PUBLISHED
    return Benchmark(info, parts, corrupted=origin, notes=tuple(notes))


def held_out(labels: Array, rule: HoldOut, name: str) -> Array:
    """Return the sorted rows of the validation images.

    A stratified draw takes from each class its share, rounded so that the sum is right, and leaves every
    class one image to train on.
    """
    n = len(labels)
    count = max(1, min(rule.count or n, n // 10))
    if rule.first:
        return np.arange(count)
    rng = np.random.RandomState(derive_seed(0, "validation", name) % 2**32)
    sizes = np.bincount(labels)
    share = count * sizes / n
    take = np.floor(share).astype(int)
    for label in np.argsort(take - share, kind="stable")[: count - take.sum()]:
        take[label] += 1  # those that lost most by rounding
    take = np.minimum(take, np.maximum(sizes - 1, 0))
    chosen = [rng.permutation(np.flatnonzero(labels == c))[: take[c]] for c in range(len(sizes))]
    return np.sort(np.concatenate(chosen))


def in_memory(data: LabelledImages) -> LabelledImages:
    """Return a set with its images decoded."""
    return LabelledImages(np.asarray(data.images), data.labels)


def _class_names(spec: DatasetSpec, data_dir: str) -> list[str] | None:
    """Return the training set's class folders, which a corrupted test set in folders must have too."""
    folder = find(spec.name, data_dir, "train")
    if folder is None or spec.corrupted is None or spec.corrupted.layout != "folders":
        return None
    return class_folders(folder / "train")


def _ood_splits(
    spec: DatasetSpec, info: DatasetInfo, data_dir: str
) -> dict[Split, dict[str, LabelledImages]]:
    roles = spec.roles
    if roles is None:
        return {}
    by_split = {
        Split.TEST_OOD_NEAR: roles.near,
        Split.TEST_OOD_FAR: roles.far,
        Split.TEST_OOD_OTHER: roles.other,
    }
    splits: dict[Split, dict[str, LabelledImages]] = {}
    for split, names in by_split.items():
        sets = {}
        for name in names:
            if name in NOISES:
                sets[name] = noise_set(info.name, name, NOISE_N, info.shape)
            elif find(name, data_dir, "test") is not None:
                sets[name] = _ood(read(name, data_dir, "test"), info, name, spec.crop)
        splits[split] = sets
    if roles.folders:
        for split, group in ((Split.TEST_OOD_NEAR, "near"), (Split.TEST_OOD_FAR, "far")):
            folder = Path(data_dir).expanduser() / "ood" / group
            for name in class_folders(folder) if folder.is_dir() else ():
                splits[split][name] = _ood(read_folder(folder / name), info, name, spec.crop)
    return {split: sets for split, sets in splits.items() if sets}


def _published(info: DatasetInfo, data_dir: str) -> Path:
    return Path(data_dir).expanduser() / published_folder(info.name)


def _corrupted_notes(info: DatasetInfo, data_dir: str, corrupted: dict[str, LabelledImages]) -> list[str]:
    if not corrupted:
        return []
    folder = _published(info, data_dir)
    notes = []
    if (folder / MANIFEST).is_file():
        notes.append(regenerated_line(info.name, len(next(iter(corrupted.values())))))
    lacking = lacking_of(corrupted)
    if lacking:
        notes.append(
            f"{folder} lacks {', '.join(lacking)}; the mean over the others is not the published one"
        )
    return notes


def _ood(pictures: Pictures, info: DatasetInfo, name: str, crop: float) -> LabelledImages:
    data = _images(pictures, info, _rows(pictures, name, "ood"), crop)
    return LabelledImages(data.images, np.full(len(data), -1, np.int64))


def _images(pictures: Pictures, info: DatasetInfo, rows: Array, crop: float) -> LabelledImages:
    images = LazyImages(pictures.source, info.shape, rows, crop)
    return LabelledImages(images, pictures.labels[rows])  # type: ignore[arg-type]


def _rows(pictures: Pictures, name: str, part: str) -> Array:
    rows = np.arange(len(pictures.labels))
    return _mixed(rows, name, part) if pictures.sorted else rows


def _mixed(rows: Array, *keys: str) -> Array:
    return np.random.RandomState(derive_seed(0, "order", *keys) % 2**32).permutation(rows)


def _first(data: LabelledImages, n: int) -> LabelledImages:
    return LabelledImages(np.asarray(data.images[:n]), data.labels[:n])


def _validation_names(spec: DatasetSpec, info: DatasetInfo) -> tuple[str, ...]:
    grey = info.shape[0] == 1  # has no channels to shift
    names = spec.roles.validation if spec.roles else ()
    return tuple(name for name in names if not (grey and name == "rgb_shifted"))


def _bytes(data: LabelledImages) -> int:
    return int(data.images.nbytes)
