"""The splits of a data set, which of them search may read, and `DatasetInfo`. No torch."""

from dataclasses import dataclass
from enum import StrEnum


class Split(StrEnum):
    """A named part of a benchmark. Search reads train and validation; the tests are sealed until it has ended."""

    TRAIN = "train"
    VAL_ID = "val_id"
    VAL_OOD_NEAR = "val_ood_near"
    VAL_OOD_FAR = "val_ood_far"
    TEST_ID = "test_id"
    TEST_OOD_NEAR = "test_ood_near"
    TEST_OOD_FAR = "test_ood_far"
    TEST_OOD_OTHER = "test_ood_other"  # reported alone, in no mean
    VAL_CORRUPTED = "val_corrupted"  # hold-out corruptions of validation images
    CORRUPTED = "corrupted"


class Origin(StrEnum):
    """Where the images of the split `corrupted` come from; results of two origins are not comparable."""

    NONE = ""
    OWN = "own"  # the built-in digits' corruptions
    PUBLISHED = "published"
    REGENERATED = "regenerated"  # made here from the clean test images


SEARCH_SPLITS = frozenset(
    {Split.TRAIN, Split.VAL_ID, Split.VAL_OOD_NEAR, Split.VAL_OOD_FAR, Split.VAL_CORRUPTED}
)
TEST_SPLITS = frozenset(Split) - SEARCH_SPLITS


@dataclass(frozen=True)
class DatasetInfo:
    """What networks, reports and checkpoints need to know of a data set.

    Attributes:
        shape: (channels, height, width) of one image.
        mean, std: per channel, of inputs in [0, 1]; the first layer of every network normalises with them.
        builtin: needs no files and no download.
        files: what to put into `--data-dir` when it is not built in, in one sentence.
        crop: how a picture of another size becomes an image: it is scaled to cover the shape (bilinearly, with
            anti-aliasing) and cut to its centre; this share of the covered side is kept.
        classes: names in the order of the labels, () where they are not known; see `class_names`.
        pad: pictures that are smaller by so many pixels on every side get a black margin instead of being scaled.
    """

    name: str
    num_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    builtin: bool = False
    files: str = ""
    crop: float = 1.0
    classes: tuple[str, ...] = ()
    pad: int = 0

    @property
    def seed_name(self) -> str:
        """Return the name that draws are seeded by; of the user's own data it does not say where they are."""
        return "own" if ":" in self.name else self.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes in the order of the labels: their numbers where no names are known."""
        return self.classes or tuple(map(str, range(self.num_classes)))
