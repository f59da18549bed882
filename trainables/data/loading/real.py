"""Assemble a benchmark from files: splits, validation hold-out, OOD roles, corrupted test sets. No torch.

Validation images are held out of the training images: the first 1024 for CIFAR (the convention of DyART and of
robust-training code), else a stratified draw of a fixed seed; never more than a tenth. The official test set
(or, where that has no labels, the official validation set) is the test split.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.base.seeds import derive_seed
from trainables.data.download import ensure
from trainables.data.readers.corrupted_files import corrupted_sets, lacking_of
from trainables.data.readers.image_readers import Pictures, read, read_folder
from trainables.data.synthetic.corruptions_imagenet import MANIFEST
from trainables.data.synthetic.hold_out import hold_out_corruptions
from trainables.data.synthetic.made_ood import noise_set, validation_sets
from trainables.data.types import catalog
from trainables.data.types.availability import lacking_line, missing_ood, regenerated_line
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.locations import class_folders, find, local, published_folder
from trainables.data.types.roles import NOISE_N, NOISES, ROLES
from trainables.data.types.splits import DatasetInfo, Origin, Split

Array = np.ndarray

#: Above so many bytes, all splits together, images stay files and are decoded when used.
IN_MEMORY_BYTES = 4 * 2**30


class MissingDataWarning(UserWarning):
    """Some OOD sets of a data set are not on disk and are left out."""


@dataclass(frozen=True)
class _Rule:
    """How validation images are held out of training.

    Attributes:
        count: how many, at most a tenth of all; 0: a tenth.
        first: the first ones in file order instead of a stratified draw.
        crop: share of the covered picture's side that is kept.
    """

    count: int = 0
    first: bool = False
    crop: float = 1.0


_RULES: dict[str, _Rule] = {
    "cifar10": _Rule(1024, first=True),
    "cifar100": _Rule(1024, first=True),
    "mnist": _Rule(5000),
    "fashion-mnist": _Rule(5000),
    "svhn": _Rule(5000),
    "food101": _Rule(5050),
    "tiny-imagenet": _Rule(),
    "imagenet": _Rule(10_000, crop=0.875),  # 224 of 256, as in every published evaluation
    "imagefolder": _Rule(),
}


def build(name: str, data_dir: str, search_only: bool = False) -> Benchmark:
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
    info = catalog.get(name, data_dir)
    rule = _RULES[name]
    train = read(name, data_dir, "train", info.num_classes)
    order = np.arange(len(train.labels))
    held = held_out(train.labels, rule, name)
    rest = np.setdiff1d(order, held)
    if train.sorted:
        rest, held = _mixed(rest, name, "train"), _mixed(held, name, "val_id")
    parts: dict[Split, dict[str, LabelledImages]] = {
        Split.TRAIN: {"id": _images(train, info, rest, rule.crop)},
        Split.VAL_ID: {"id": _images(train, info, held, rule.crop)},
    }
    corrupted: dict[str, LabelledImages] = {}
    notes: list[str] = []
    if not search_only:
        test = read(name, data_dir, "test", info.num_classes)
        parts[Split.TEST_ID] = {"id": _images(test, info, _rows(test, name, "test"), rule.crop)}
        parts |= _ood_splits(info, data_dir, rule.crop)
        lacking = missing_ood(ROLES[name].tested, name, data_dir)
        if lacking:
            notes.append(lacking_line(name, lacking, data_dir))
            warnings.warn(notes[-1], MissingDataWarning, stacklevel=2)
        folder = find(name, data_dir, "train")
        known = class_folders(folder / "train") if folder and name in ("imagenet", "tiny-imagenet") else None
        corrupted = corrupted_sets(info, data_dir, known)
        notes += _corrupted_notes(info, data_dir, corrupted)
    if sum(_bytes(data) for sets in parts.values() for data in sets.values()) <= IN_MEMORY_BYTES:
        parts = {split: {of: in_memory(data) for of, data in sets.items()} for split, sets in parts.items()}
    validation, large = parts[Split.VAL_ID]["id"], info.shape[-1] > 64
    base = _first(validation, 256 if large else 1024)
    parts[Split.VAL_OOD] = validation_sets(name, _validation_names(name, info), base)
    parts[Split.VAL_CORRUPTED] = hold_out_corruptions(name, _first(base, 128 if large else 1024))
    if not corrupted:
        return Benchmark(info, parts, notes=tuple(notes))
    parts[Split.CORRUPTED] = corrupted
    made = (_published(info, data_dir) / MANIFEST).is_file()
    origin = Origin.REGENERATED if made else Origin.PUBLISHED
    return Benchmark(info, parts, corrupted=origin, notes=tuple(notes))


def held_out(labels: Array, rule: _Rule, name: str) -> Array:
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


def _ood_splits(info: DatasetInfo, data_dir: str, crop: float) -> dict[Split, dict[str, LabelledImages]]:
    roles = ROLES[info.name]
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
                sets[name] = _ood(read(name, data_dir, "test"), info, name, crop)
        splits[split] = sets
    if info.name == "imagefolder":
        for split, group in ((Split.TEST_OOD_NEAR, "near"), (Split.TEST_OOD_FAR, "far")):
            folder = Path(data_dir).expanduser() / "ood" / group
            for name in class_folders(folder) if folder.is_dir() else ():
                splits[split][name] = _ood(read_folder(folder / name), info, name, crop)
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


def _validation_names(name: str, info: DatasetInfo) -> tuple[str, ...]:
    grey = info.shape[0] == 1
    return tuple(v for v in ROLES[name].validation if not (grey and v == "rgb_shifted"))


def _bytes(data: LabelledImages) -> int:
    return int(data.images.nbytes)
