"""What a plan needs to know of a data set: sizes, counts, what is odd about them. Files are listed, none is opened.

Neither torch nor, for the data sets of this project, numpy: every plan asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS


@dataclass(frozen=True)
class DataFacts:
    """Size and number of the images of a data set.

    Attributes:
        shape: (channels, height, width) of one image.
        train_images: to train on; 0 where nobody knows before they are loaded.
        mirrors: whether training may flip them.
        notes: what the user should know, one line each.
        digests: {set that a search reads: "288 <hash>"} of the user's own data, see `own_facts.set_digests`.
    """

    name: str
    shape: tuple[int, int, int]
    train_images: int
    mirrors: bool
    notes: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

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
    from trainables.data.loading.own_facts import own_facts

    count, notes, digests = own_facts(dataset, data_dir, info)
    mirrors = spec.mirrors and info.shape[0] == 3  # grey ones may be characters
    return DataFacts(dataset, info.shape, count, mirrors, notes, digests)
