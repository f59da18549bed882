"""What a plan needs to know of a data set: sizes, counts, what is odd about them. Files are listed, none is opened.

No torch.
"""

from dataclasses import dataclass

import numpy as np

from trainables.data.loading.from_files import Parts, undecoded, validation_notes
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import DatasetInfo, Split

UNBALANCED = 5.0  #: a class has so many times the images of another


@dataclass(frozen=True)
class DataFacts:
    """Size and number of the images of a data set.

    Attributes:
        shape: (channels, height, width) of one image.
        train_images: to train on; 0 where nobody knows before they are loaded.
        mirrors: whether training may flip them.
        notes: what the user should know, one line each.
    """

    name: str
    shape: tuple[int, int, int]
    train_images: int
    mirrors: bool
    notes: tuple[str, ...] = ()

    @property
    def side(self) -> int:
        """Return the shorter side in pixels."""
        return min(self.shape[1:])


def data_facts(dataset: str, data_dir: str = "") -> DataFacts:
    """Return the facts of a data set, of the user's own counted in their folder.

    Raises:
        InputError: an unknown data set.
        DataFileError: the user's folder is not one of class folders, or leaves no image for validation.
    """
    spec = DATASETS[dataset]
    info = dataset_info(dataset, data_dir)
    if not spec.users_own:
        return DataFacts(dataset, info.shape, spec.train_images, spec.mirrors)
    parts = undecoded(dataset, data_dir, search_only=True)
    notes = [*validation_notes(info, parts), *balance_notes(info, parts)]
    mirrors = spec.mirrors and info.shape[0] == 3  # grey ones may be characters
    return DataFacts(dataset, info.shape, len(parts[Split.TRAIN]["id"]), mirrors, tuple(notes))


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
