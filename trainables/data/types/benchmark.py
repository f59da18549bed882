"""`Benchmark`: all splits of one data set; test splits cannot be opened during search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from trainables.base.errors import SealedSplitError
from trainables.data.types.splits import SEARCH_SPLITS, DatasetInfo, Origin, Split

Array = np.ndarray


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        images: (n, c, h, w), uint8 in 0..255 or float32 in [0, 1]; may be read-only or memory-mapped.
        labels: (n,) int64, the class; -1 for OOD.
    """

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


Sets = Mapping[str, LabelledImages]


@dataclass
class Benchmark:
    """All opened parts of one data set.

    ID splits hold one set named "id"; OOD splits one set per OOD source; corrupted splits one set per
    "<corruption>/<severity>".

    Attributes:
        info: what the data set is.
        parts: {split: {set name: images}}; only what was loaded.
        stage: "search" forbids to open any test split, whether it was loaded or not.
        opened: the splits that were read so far; `plan.json` records them.
        corrupted: where the images of the split `corrupted` come from.
        notes: one line each for the report: sets that are left out, corruptions that are not the published ones.
    """

    info: DatasetInfo
    parts: Mapping[Split, Sets]
    stage: str = "evaluate"
    opened: set[Split] = field(default_factory=set)
    corrupted: Origin = Origin.NONE
    notes: tuple[str, ...] = ()

    def sets(self, split: Split) -> Sets:
        """Return {set name: images} of a split.

        Raises:
            SealedSplitError: a test split during search.
            KeyError: the split was not loaded.
        """
        if self.stage == "search" and split not in SEARCH_SPLITS:
            raise SealedSplitError(
                f"split {split.value} of {self.info.name} is sealed during search; "
                "only train and validation splits may be read"
            )
        if split not in self.parts:
            raise KeyError(f"split {split.value} of {self.info.name} was not loaded")
        self.opened.add(split)
        return self.parts[split]

    def labelled(self, split: Split) -> LabelledImages:
        """Return the one set of an ID split."""
        return self.sets(split)["id"]

    def has(self, split: Split) -> bool:
        return split in self.parts

    def for_search(self) -> "Benchmark":
        """Return a copy for search, without the test arrays."""
        parts = {s: p for s, p in self.parts.items() if s in SEARCH_SPLITS}
        return Benchmark(self.info, parts, "search")


def merge(sets: Iterable[LabelledImages]) -> LabelledImages:
    """Concatenate sets of equal shape and dtype."""
    parts = list(sets)
    return LabelledImages(
        np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    )
