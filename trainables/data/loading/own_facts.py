"""Counts, oddities and digests of the user's own data. Files are listed, none is opened. No torch."""

import hashlib

import numpy as np

from trainables.data.loading.duplicates import CORRUPTED, in_words, sets_of
from trainables.data.loading.from_files import Parts, undecoded, validation_notes
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.splits import DatasetInfo, Split

UNBALANCED = 5.0  #: a class has so many times the images of another


def own_facts(dataset: str, data_dir: str, info: DatasetInfo) -> tuple[int, tuple[str, ...], dict[str, str]]:
    """Return the number of training images, what the user should know, and `set_digests`.

    Raises:
        DataFileError: the user's folder is not one of class folders, or leaves no image for validation.
    """
    parts = undecoded(dataset, data_dir, search_only=True)
    notes = (*validation_notes(info, parts), *balance_notes(info, parts))
    return len(parts[Split.TRAIN]["id"]), notes, set_digests(parts)


def set_digests(parts: Parts) -> dict[str, str]:
    """Return {set: how many images, and a hash of them} of sets that are not decoded.

    Files count by their names below the data folder and their sizes, arrays by some of their rows.
    """
    found = {}
    for name, data in sets_of(parts, CORRUPTED).items():
        images: object = data.images
        if isinstance(images, LazyImages):
            digest = hashlib.sha256(np.ascontiguousarray(data.labels).tobytes())
            for part in images.identity():
                digest.update(part)
            found[in_words(name)] = f"{len(data)} {digest.hexdigest()[:32]}"
    return found


def balance_notes(info: DatasetInfo, parts: Parts) -> list[str]:
    """Return a line if a class has many times the training images of another."""
    counts = class_counts(parts[Split.TRAIN]["id"], info.num_classes)
    most, fewest = int(np.argmax(counts)), int(np.argmin(counts))
    if counts[most] < UNBALANCED * counts[fewest]:
        return []
    return [
        f"{info.name}: unbalanced: {counts[most]} images of class {info.class_names[most]!r} to train on, "
        f"{counts[fewest]} of {info.class_names[fewest]!r}; accuracy counts each image alike; "
        "--set balance=weights or balance=sampling trains on all classes alike"
    ]


def class_counts(data: LabelledImages, classes: int) -> list[int]:
    """Return how many images each class has."""
    return [int(count) for count in np.bincount(data.labels, minlength=classes)]
