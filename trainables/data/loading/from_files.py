"""Load a data set from files: splits, validation hold-out, OOD sets, corrupted test sets. No torch.

Validation images are held out of the training images: the first 1024 for CIFAR (the convention of DyART and of
robust-training code), else a stratified draw of a fixed seed; never more than a tenth. The official test set
(or, where that has no labels, the official validation set) is the test split.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainables.base.errors import DataFileError
from trainables.base.registry import resolve_reference
from trainables.base.seeds import derive_seed
from trainables.data.download import ensure
from trainables.data.readers.corrupted_files import corrupted_sets, missing_corruptions
from trainables.data.readers.image_readers import Pictures, read, read_folder
from trainables.data.readers.own_sets import OOD_SPLITS, OwnSets
from trainables.data.synthetic.corruptions_imagenet import MANIFEST
from trainables.data.synthetic.hold_out_corruptions import hold_out_blocks, hold_out_corruptions
from trainables.data.synthetic.made_ood import noise_set, validation_sets
from trainables.data.types.availability import lacking_line, missing_ood, published_folder, regenerated_line
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.dataset_spec import DatasetSpec, HoldOut, OodRoles
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import find_folder, local_folder
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.made_sets import NOISE_N, NOISES
from trainables.data.types.own_ood import own_ood_sets
from trainables.data.types.picture_files import class_folders
from trainables.data.types.splits import SEARCH_SPLITS, DatasetInfo, Origin, Split

Array = np.ndarray
Parts = dict[Split, dict[str, LabelledImages]]
GivenSets = Mapping[Split, Mapping[str, Pictures]]

#: By what the fixed order of a split that lies sorted by class is seeded.
_ORDER = {Split.TRAIN: "train", Split.VAL_ID: "val_id", Split.TEST_ID: "test"}

#: Above so many bytes, all splits together, images stay files and are decoded when used.
IN_MEMORY_BYTES = 4 * 2**30
#: Large images of each corrupted validation set, others in each of the 20: 2,560 in all, 390 MB at 224 pixels.
CORRUPTED_BLOCK = 128


#: With fewer validation images the user is told so: the standard error of an accuracy of 90 % is 4 points at 50.
FEW_VALIDATION_IMAGES = 50


class MissingDataWarning(UserWarning):
    """Some OOD sets of a data set are not on disk and are left out."""


def load(name: str, data_dir: str, search_only: bool = False) -> Benchmark:
    """Return a data set read from files; what is missing of it is downloaded first, if its source allows it.

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
    spec = DATASETS[name]
    if spec.files is not None:
        ensure(name, local_folder(name, data_dir))
    info = dataset_info(name, data_dir)
    parts = undecoded(name, data_dir, search_only)
    given_corrupted = Split.CORRUPTED in parts
    corrupted: dict[str, LabelledImages] = {}
    notes: list[str] = []
    if not search_only:
        corrupted = corrupted_sets(spec, info, data_dir, _class_names(spec, data_dir))
        notes = [
            *_missing_ood_notes(spec, data_dir),
            *_corrupted_notes(info, data_dir, corrupted),
            *validation_notes(info, parts),
            *(own_sets(spec, data_dir).notes if spec.sets else ()),
        ]
    if sum(_bytes(data) for sets in parts.values() for data in sets.values()) <= IN_MEMORY_BYTES:
        parts = {split: {of: in_memory(data) for of, data in sets.items()} for split, sets in parts.items()}
    for split, sets in _made_of_validation(spec, info, parts[Split.VAL_ID]["id"]).items():
        parts[split] = {**sets, **parts.get(split, {})}
    if corrupted:
        parts[Split.CORRUPTED] = corrupted
    origin = Origin.OWN if given_corrupted else _origin(info, data_dir, corrupted)
    return Benchmark(info, parts, corrupted=origin, notes=tuple(notes))


def undecoded(name: str, data_dir: str, search_only: bool = False) -> Parts:
    """Return the splits that are read and not made of others, their images not decoded yet.

    Validation OOD is among them where the user gives some. Errors and arguments are those of `load`.
    """
    spec, info = DATASETS[name], dataset_info(name, data_dir)
    given = own_sets(spec, data_dir).sets if spec.sets else _read_sets(spec, info, data_dir, search_only)
    parts = {} if search_only else _named_ood(spec, info, data_dir)
    for split, sets in given.items():
        if not search_only or split in SEARCH_SPLITS:
            found = {of: _given(pictures, spec, info, split, of) for of, pictures in sets.items()}
            parts[split] = {**parts.get(split, {}), **found}
    if Split.VAL_ID not in parts:
        parts |= _hold_out(spec, info, given[Split.TRAIN]["id"])
    return {split: parts[split] for split in Split if parts.get(split)}


def own_sets(spec: DatasetSpec, data_dir: str) -> OwnSets:
    """Return what a spec's `sets` returns."""
    found: OwnSets = resolve_reference(spec.sets)(spec.name, data_dir)
    return found


def validation_notes(info: DatasetInfo, parts: Parts) -> list[str]:
    """Return a line if the validation images of a user's own data are too few to rank trials by."""
    if not DATASETS[info.name].users_own:
        return []
    train, validation = (parts[split]["id"] for split in (Split.TRAIN, Split.VAL_ID))
    absent = info.num_classes - len(np.unique(validation.labels))
    if len(validation) >= FEW_VALIDATION_IMAGES and not absent:
        return []
    without = f", none of {absent} of the {info.num_classes} classes" if absent else ""
    held = getattr(train.images, "source", 0) is getattr(validation.images, "source", 1)
    origin = ", a tenth of those to train on" if held else ""
    return [
        f"{info.name}: {len(validation)} validation image{'' if len(validation) == 1 else 's'}{without}{origin}; with "
        "so few, the best trial of a search is largely chance"
    ]


def _read_sets(spec: DatasetSpec, info: DatasetInfo, data_dir: str, search_only: bool) -> GivenSets:
    """Return the ID splits of files, and the user's own OOD sets."""
    parts = {Split.TRAIN: "train", Split.VAL_ID: "val", Split.TEST_ID: "test"}
    if search_only:
        del parts[Split.TEST_ID]
    if find_folder(spec.name, data_dir, "val") is None:
        del parts[Split.VAL_ID]
    sets: dict[Split, dict[str, Pictures]] = {
        split: {"id": read(spec.name, data_dir, part, info.num_classes)} for split, part in parts.items()
    }
    root = Path(data_dir).expanduser() / "ood"
    for group, names in own_ood_sets(spec.name, data_dir).items():
        sets[OOD_SPLITS[group]] = {name: read_folder(root / group / name) for name in names}
    return sets


def _hold_out(spec: DatasetSpec, info: DatasetInfo, train: Pictures) -> Parts:
    """Return what is left to train on, and the validation images that are held out of it."""
    held = held_out(train.labels, spec.hold_out, spec.name, info.seed_name)
    rest = np.setdiff1d(np.arange(len(train.labels)), held)
    if train.sorted:
        rest, held = (
            _shuffled(rows, info.seed_name, _ORDER[split])
            for split, rows in ((Split.TRAIN, rest), (Split.VAL_ID, held))
        )
    return {
        Split.TRAIN: {"id": _images(train, info, rest, spec.crop)},
        Split.VAL_ID: {"id": _images(train, info, held, spec.crop)},
    }


def _given(
    pictures: Pictures, spec: DatasetSpec, info: DatasetInfo, split: Split, name: str
) -> LabelledImages:
    """Return a set as it is given, in one fixed random order if it lies sorted by class."""
    if "_ood" in split.value:
        return _ood(pictures, info, name, spec.crop)
    return _images(pictures, info, _rows(pictures, info.seed_name, _ORDER.get(split, name)), spec.crop)


def _made_of_validation(spec: DatasetSpec, info: DatasetInfo, validation: LabelledImages) -> Parts:
    """Return the OOD and corrupted sets that search may read, made from the first validation images."""
    large = info.shape[-1] > 64
    base = _first(validation, 256 if large else 1024)
    return {
        **{
            split: validation_sets(info.seed_name, names, base)
            for split, names in _made_ood(spec, info).items()
        },
        Split.VAL_CORRUPTED: hold_out_blocks(info.seed_name, validation, CORRUPTED_BLOCK)
        if large
        else hold_out_corruptions(info.seed_name, base),
    }


def _missing_ood_notes(spec: DatasetSpec, data_dir: str) -> list[str]:
    lacking = missing_ood(spec.roles.tested, spec.name, data_dir) if spec.roles else []
    if not lacking:
        return []
    line = lacking_line(spec.name, lacking, data_dir)
    warnings.warn(line, MissingDataWarning, stacklevel=3)
    return [line]


def _origin(info: DatasetInfo, data_dir: str, corrupted: Mapping[str, LabelledImages]) -> Origin:
    if not corrupted:
        return Origin.NONE
    return Origin.REGENERATED if (_published(info, data_dir) / MANIFEST).is_file() else Origin.PUBLISHED


def held_out(labels: Array, rule: HoldOut, name: str, seed_name: str = "") -> Array:
    """Return the sorted rows of the validation images.

    A stratified draw takes from each class its share, rounded so that the sum is right, and leaves every
    class one image to train on.

    Args:
        name: of the data set, for the message.
        seed_name: by which the draw is seeded, if it is another.

    Raises:
        DataFileError: no class has more than one image.
    """
    n = len(labels)
    count = max(1, min(rule.count or n, n // 10))
    if rule.first:
        return np.arange(count)
    rng = np.random.RandomState(derive_seed(0, "validation", seed_name or name) % 2**32)
    sizes = np.bincount(labels)
    share = count * sizes / n
    take = np.floor(share).astype(int)
    for label in np.argsort(take - share, kind="stable")[: count - take.sum()]:
        take[label] += 1  # those that lost most by rounding
    take = np.minimum(take, np.maximum(sizes - 1, 0))
    chosen = [rng.permutation(np.flatnonzero(labels == c))[: take[c]] for c in range(len(sizes))]
    rows = np.sort(np.concatenate(chosen))
    if not len(rows):
        raise DataFileError(
            f"{name}: {n} training images of {len(sizes)} classes, {sizes.min()} in the smallest and {sizes.max()} in "
            "the largest, leave none for validation; give a class 2 images at least"
        )
    return rows


def in_memory(data: LabelledImages) -> LabelledImages:
    """Return a set with its images decoded."""
    return LabelledImages(np.asarray(data.images), data.labels)


def _class_names(spec: DatasetSpec, data_dir: str) -> list[str] | None:
    """Return the training set's class folders, which a corrupted test set in folders must have too."""
    if spec.corrupted is None or spec.corrupted.layout != "folders":
        return None
    folder = find_folder(spec.name, data_dir, "train")
    return class_folders(folder / "train") if folder else None


def _named_ood(spec: DatasetSpec, info: DatasetInfo, data_dir: str) -> Parts:
    """Return the OOD test sets that the spec names, as far as they are there."""
    roles = spec.roles
    if roles is None:
        return {}
    splits: Parts = {}
    for split, names in (
        (Split.TEST_OOD_NEAR, roles.near),
        (Split.TEST_OOD_FAR, roles.far),
        (Split.TEST_OOD_OTHER, roles.other),
    ):
        sets = {}
        for name in names:
            if name in NOISES:
                sets[name] = noise_set(info.seed_name, name, NOISE_N, info.shape)
            elif find_folder(name, data_dir, "test") is not None:
                sets[name] = _ood(read(name, data_dir, "test"), info, name, spec.crop)
        splits[split] = sets
    return splits


def _published(info: DatasetInfo, data_dir: str) -> Path:
    return Path(data_dir).expanduser() / published_folder(info.name)


def _corrupted_notes(info: DatasetInfo, data_dir: str, corrupted: dict[str, LabelledImages]) -> list[str]:
    if not corrupted:
        return []
    folder = _published(info, data_dir)
    notes = []
    if (folder / MANIFEST).is_file():
        notes.append(regenerated_line(info.name, len(next(iter(corrupted.values()))), info.shape))
    lacking = missing_corruptions(corrupted)
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
    return _shuffled(rows, name, part) if pictures.sorted else rows


def _shuffled(rows: Array, *keys: str) -> Array:
    return np.random.RandomState(derive_seed(0, "order", *keys) % 2**32).permutation(rows)


def _first(data: LabelledImages, n: int) -> LabelledImages:
    return LabelledImages(np.asarray(data.images[:n]), data.labels[:n])


def _made_ood(spec: DatasetSpec, info: DatasetInfo) -> dict[Split, tuple[str, ...]]:
    """Return the names of the OOD sets that are made of validation images."""
    roles = spec.roles or OodRoles((), (), validation_near=(), validation_far=())
    grey = info.shape[0] == 1  # has no channels to shift
    far = tuple(name for name in roles.validation_far if not (grey and name == "rgb_shifted"))
    return {Split.VAL_OOD_NEAR: roles.validation_near, Split.VAL_OOD_FAR: far}


def _bytes(data: LabelledImages) -> int:
    return int(data.images.nbytes)
