"""Reader of the published corrupted test sets: CIFAR-10-C, CIFAR-100-C, ImageNet-C, Tiny-ImageNet-C. No torch.

Only the 15 test corruptions are opened. The four hold-out ones of the same archives are test images too, so
tuning on them would leak; `hold_out_corruptions` makes its own out of validation images.

Layouts: `CIFAR-10-C/<corruption>.npy`, uint8 (5 n, 32, 32, 3), severity k being rows n (k - 1) to n k, beside
`labels.npy`; `<root>/[<kind>/]<corruption>/<severity>/<wnid>/*.JPEG`, already cropped to their size.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trainables.base.errors import DataFileError
from trainables.data.readers.image_readers import class_tree
from trainables.data.readers.outlier_files import check_npy
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.lazy_images import FileSource, LazyImages, NpySource
from trainables.data.types.picture_files import class_folders
from trainables.data.types.splits import DatasetInfo

#: The test corruptions of Hendrycks & Dietterich 2019, in the order of their table.
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
NOISES = CORRUPTIONS[:3]  #: what training on noise tells on; means are given without them too
SEVERITIES = 5
_KINDS = ("", "noise", "blur", "weather", "digital")  # the archives of ImageNet-C unpack to one of these each


def corrupted_sets(
    spec: DatasetSpec, info: DatasetInfo, data_dir: str, classes: list[str] | None = None
) -> dict[str, LabelledImages]:
    """Return {"<corruption>/<severity>": images and labels}, {} where there are no such files.

    A folder that lacks some of the 15 gives the others and a warning that names what is lacking, because a
    mean over fewer is not the published one. Missing ones are not regenerated, so that published and regenerated images
    are never mixed. Nothing is decoded or copied here.

    Args:
        info: classes and shape, where the spec leaves them to the data folder.
        classes: the names of the ID set's class folders, for ImageNet-C and Tiny-ImageNet-C.

    Raises:
        DataFileError: a file that is there is not in the published format.
    """
    if spec.corrupted is None:
        return {}
    root = Path(data_dir).expanduser() / spec.corrupted.folder
    if not root.is_dir():
        return {}
    sets: dict[str, LabelledImages] = {}
    for corruption in CORRUPTIONS:
        if spec.corrupted.layout == "arrays":
            sets |= _array_sets(root, corruption, info)
        else:
            sets |= _folder_sets(root, corruption, info, classes or [])
    lacking = missing_corruptions(sets)
    if lacking and sets:
        warnings.warn(f"{root} lacks {', '.join(lacking)}; the mean over the others is not mCE", stacklevel=2)
    return sets


def missing_corruptions(sets: Iterable[str]) -> list[str]:
    """Return which of the 15 have no set among names "<corruption>/<severity>"."""
    have = {name.split("/")[0] for name in sets}
    return [name for name in CORRUPTIONS if name not in have]


def _array_sets(root: Path, corruption: str, info: DatasetInfo) -> dict[str, LabelledImages]:
    path = root / f"{corruption}.npy"
    if not path.is_file():
        return {}
    total = check_npy(path, info.shape)
    labels = _labels(root / "labels.npy", info.num_classes)
    if total % SEVERITIES or len(labels) not in (total, total // SEVERITIES):
        raise DataFileError(
            f"{path} has {total} images and labels.npy {len(labels)}; want 5 severities of each label"
        )
    n = total // SEVERITIES
    sets = {}
    for severity in range(SEVERITIES):
        first = n * severity
        of = labels[first : first + n] if len(labels) == total else labels
        images = LazyImages(NpySource(path, first, first + n), info.shape)
        sets[f"{corruption}/{severity + 1}"] = LabelledImages(images, of)  # type: ignore[arg-type]
    return sets


def _labels(path: Path, classes: int) -> np.ndarray:
    try:
        labels = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DataFileError(f"{path} is not a whole npy file: {_line(error)}") from error
    if (
        not isinstance(labels, np.ndarray)
        or labels.ndim != 1
        or labels.dtype.kind not in "iu"
        or not len(labels)
    ):
        raise DataFileError(f"{path} must hold integers (n,)")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataFileError(f"{path} runs from {labels.min()} to {labels.max()}; want 0 to {classes - 1}")
    return labels.astype(np.int64)


def _folder_sets(
    root: Path, corruption: str, info: DatasetInfo, classes: list[str]
) -> dict[str, LabelledImages]:
    folder = next((root / k / corruption for k in _KINDS if (root / k / corruption).is_dir()), None)
    if folder is None:
        return {}
    sets = {}
    for severity in range(1, SEVERITIES + 1):
        one = folder / str(severity)
        if not one.is_dir():
            raise DataFileError(f"{folder} has no folder {severity}; want severities 1 to 5")
        if classes and class_folders(one) != classes:
            raise DataFileError(f"{one} has other class folders than {info.name}'s train/")
        pictures = class_tree(one, info.num_classes)
        assert isinstance(pictures.source, FileSource)
        images = LazyImages(pictures.source, info.shape, _shuffled(len(pictures.labels)))
        labels = pictures.labels[images.rows]
        sets[f"{corruption}/{severity}"] = LabelledImages(images, labels)  # type: ignore[arg-type]
    return sets


def _shuffled(n: int) -> np.ndarray:
    """Return one fixed order: class folders come sorted, and a protocol may take only the first images."""
    return np.random.RandomState(0).permutation(n)


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
