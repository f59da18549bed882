"""Looks for test images among those that are trained on, before anything is trained: `leakage_notes`. No torch.

Names and counts are all that leaves this module, so that the search still sees no test image.
"""

from collections.abc import Sequence

import numpy as np

from trainables.base.errors import DataFileError
from trainables.data.download import ensure
from trainables.data.loading.duplicates import CORRUPTED, Overlap, overlaps, sets_of
from trainables.data.loading.from_files import IN_MEMORY_BYTES, in_memory, undecoded
from trainables.data.loading.open_dataset import load
from trainables.data.readers.outlier_files import checked_file
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import local_folder
from trainables.data.types.lazy_images import LazyImages
from trainables.options.common import OutlierOptions

LARGE_SIDE = (
    64  #: published pictures of more pixels a side are not compared: reading all of ImageNet takes hours
)
_SHOWN = 3

Sets = dict[str, LabelledImages]


def leakage_notes(
    dataset: str, data_dir: str, outliers: Sequence[OutlierOptions], allowed: bool
) -> tuple[str, ...]:
    """Return what the user should know of images that stand in two sets, one line each.

    - The user's own pictures are compared as pixels of the task's size, those that were saved again too.
    - Published sets that hold arrays are compared as pixels; what they share is known and no reason to refuse them.
      Other published ones are compared with files of outliers only, built-in ones too (a test compares those).
    - Pictures over 4 GiB are not decoded for this: they are compared by their files' bytes, and not with outliers.

    Args:
        outliers: files of training outliers, which are compared with every set.
        allowed: exact copies are notes, not errors.

    Raises:
        DataFileError: exact copies of test images are trained on, of pictures or outliers that the user brings.
    """
    spec = DATASETS[dataset]
    if spec.files is None and not spec.users_own and not outliers:
        return ()
    files = _sets(spec, data_dir, bool(outliers))
    fits = sum(int(data.images.nbytes) for data in files.values()) <= IN_MEMORY_BYTES
    if not fits and not spec.users_own:
        return (f"{dataset}: its pictures are over 4 GiB; files of outliers were not compared with them",)
    sets = {name: in_memory(data) for name, data in files.items()} if fits else files
    shape = dataset_info(dataset, data_dir).shape
    for options in outliers:
        path, count = checked_file(options, shape)
        images = options.source.load_file().all(path)
        sets = {f"outliers/{path.name}": LabelledImages(images, np.full(count, -1))} | sets
    found = overlaps(sets, alike=spec.users_own and fits, files=files)
    lines = leaks(found, spec.users_own, allowed)
    if not fits:
        also = "; files of outliers were not compared with them" if outliers else ""
        lines.append(
            f"{dataset}: its pictures are over 4 GiB; copies were looked for by the files' bytes alone{also}"
        )
    return tuple(lines)


def leaks(found: Sequence[Overlap], users_own: bool, allowed: bool) -> list[str]:
    """Return the overlaps as notes.

    Raises:
        DataFileError: exact copies among them let a test be trained on, and the user can change that.
    """
    refused = [o for o in found if o.is_leak and (users_own or o.first.startswith("outliers/"))]
    if refused and not allowed:
        more = f"; and {len(refused) - _SHOWN} more pairs of sets" if len(refused) > _SHOWN else ""
        raise DataFileError(
            f"{'; '.join(map(str, refused[:_SHOWN]))}{more}; remove the copies, or go on with --allow-duplicates"
        )
    return [f"{o} (--allow-duplicates)" if o in refused else str(o) for o in found]


def _sets(spec: DatasetSpec, data_dir: str, with_outliers: bool) -> Sets:
    """Return the sets to compare."""
    if spec.users_own:
        return sets_of(undecoded(spec.name, data_dir), CORRUPTED)
    if spec.files is None:
        return sets_of(load(spec.name, data_dir).parts)
    if not with_outliers and max(spec.shape[1:]) > LARGE_SIDE:
        return {}
    ensure(spec.name, local_folder(spec.name, data_dir))
    sets = sets_of(undecoded(spec.name, data_dir))
    if not with_outliers:
        return {name: data for name, data in sets.items() if _is_array(data)}
    return sets


def _is_array(data: LabelledImages) -> bool:
    images: object = data.images
    return not isinstance(images, LazyImages) or (
        images.source.ready(images.rows[:1], images.picture_shape) is not None
    )
