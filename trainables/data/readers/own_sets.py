"""`OwnSets`: the user's own data that are no folders of pictures, and the checks that all such share. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.base.errors import DataFileError
from trainables.data.readers.image_readers import Pictures
from trainables.data.types.own_ood import GROUPS
from trainables.data.types.splits import DatasetInfo, Split

Array = np.ndarray

#: The splits of the user's own OOD sets.
OOD_SPLITS = dict(zip(GROUPS, (Split.TEST_OOD_NEAR, Split.TEST_OOD_FAR, Split.VAL_OOD_NEAR), strict=True))
SIDES = (4, 4096)  #: of an image, in pixels


@dataclass(frozen=True)
class OwnSets:
    """What the user gives, checked; no image has been read.

    Attributes:
        sets: {split: {"id" or the OOD set's name: pictures}}; what is not there is made or held out, see `from_files`.
        notes: what the user should know, one line each.
        check: returns more notes, or raises DataFileError; for what is only looked into before a launch.
    """

    info: DatasetInfo
    sets: Mapping[Split, Mapping[str, Pictures]]
    notes: tuple[str, ...] = ()
    check: Callable[[], list[str]] | None = None

    @property
    def ood_names(self) -> dict[str, list[str]]:
        """Return {"near": names of the sets, "far": ..., "val": ...}."""
        return {group: list(self.sets.get(split, {})) for group, split in OOD_SPLITS.items()}


def check_count(shape: tuple[int, ...], count: int, place: str) -> None:
    """Raise DataFileError if labels of a shape are not one for each of so many images, (n,) or (n, 1)."""
    if shape not in ((count,), (count, 1)):
        have = " x ".join(map(str, shape)) or "one value"
        raise DataFileError(f"{place} is {have}; want {count}, one label for each image")


def numbered(labels: Array, count: int, place: str, names: Sequence[str]) -> Array:
    """Return labels as int64 (n,).

    Args:
        labels: integers, or names of `names`; (n,) or (n, 1).
        count: how many there must be.
        place: where they are, for the message.
        names: of the classes in the order of their numbers, () where they have none.

    Raises:
        DataFileError: another shape or type, or a name that no class has.
    """
    check_count(labels.shape, count, place)
    values = labels.reshape(count)
    if values.dtype.kind == "U":
        if not names:
            raise DataFileError(f"{place} holds names, but the classes have none")
        known = {name: number for number, name in enumerate(names)}
        strange = sorted(set(values.tolist()) - known.keys())
        if strange:
            raise DataFileError(f"{place} holds {strange[0]!r}, which is none of the {len(known)} classes")
        return np.array([known[name] for name in values.tolist()], np.int64)
    if values.dtype.kind not in "iu":
        raise DataFileError(f"{place} is {values.dtype}; want integers from 0, or the names of the classes")
    if values.size and int(values.max()) >= 2**63:  # int64 would make it negative
        raise DataFileError(f"{place} holds {values.max()}; want integers from 0, one for each class")
    return values.astype(np.int64)


def names_in(labels: Array) -> tuple[str, ...]:
    """Return the names that label images to train on, sorted; () where numbers do."""
    return tuple(sorted(set(labels.ravel().tolist()))) if labels.dtype.kind == "U" else ()


def class_count(labels: Mapping[str, Array], names: Sequence[str]) -> int:
    """Return how many classes there are: those of the first labels, which are to train on.

    Args:
        labels: {where they are: labels}.
        names: of the classes; () where they have none.

    Raises:
        DataFileError: fewer than two classes, a class without an image to train on, or a label that no class has.
    """
    place, train = next(iter(labels.items()))
    count = len(names) or int(train.max()) + 1
    if count < 2:
        raise DataFileError(f"{place} has {count} class; a classifier needs 2 at least")
    for name, values in labels.items():
        if values.min() < 0 or values.max() >= count:
            raise DataFileError(
                f"{name} runs from {values.min()} to {values.max()}; want 0 to {count - 1}"
                + (", the numbers of the classes" if names else ", the labels to train on")
            )
    present = np.unique(train)  # not an array of all classes: the largest label may be any number
    if len(present) < count:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        absent = int(gaps[0]) if len(gaps) else len(present)
        called = f" ({names[absent]})" if names else ""
        cure = "" if names else f"; number the {len(present)} classes from 0 to {len(present) - 1}"
        raise DataFileError(f"{place} has no image of class {absent}{called}, one of {count}{cure}")
    return count


def check_names(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Return the names of classes, or raise DataFileError if two are the same or one is empty."""
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise DataFileError(f"{place} must hold a name of its own for each class")
    return tuple(names)


def check_side(shape: tuple[int, int, int], place: str) -> None:
    """Raise DataFileError if images (c, h, w) have another number of channels than 1 or 3, or no usable side."""
    channels, *sides = shape
    if channels not in (1, 3) or not all(SIDES[0] <= side <= SIDES[1] for side in sides):
        have = " x ".join(map(str, sides))
        raise DataFileError(
            f"{place} has {channels} channels and {have} pixels; want 1 or 3 channels and {SIDES[0]} to {SIDES[1]} "
            "pixels"
        )


def normalisation(
    values: Callable[[str], Array | None], channels: int, default: DatasetInfo, place: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation, one number per channel.

    Args:
        values: gives what the user says of "mean" and "std", None for nothing.
        default: where they say nothing.

    Raises:
        DataFileError: another number of them, not finite, or a deviation that is not positive.
    """
    found = []
    for key, own in (("mean", default.mean), ("std", default.std)):
        given = values(key)
        numbers = np.asarray(own[:channels] if given is None else given, dtype=float).ravel()
        low = -np.inf if key == "mean" else 0.0
        if len(numbers) != channels or not np.isfinite(numbers).all() or not (numbers > low).all():
            raise DataFileError(
                f"{place}: {key} is {numbers.tolist()}; want {channels} numbers{' above 0' if key == 'std' else ''}, "
                "of images in [0, 1]"
            )
        found.append(tuple(numbers.tolist()))
    return found[0], found[1]
