"""The table of data sets, readable without torch."""

import json
import math
from dataclasses import replace
from pathlib import Path

from trainables.base.errors import DataFileError, InputError, unknown
from trainables.data.types.locations import LOCATIONS, class_folders
from trainables.data.types.splits import DatasetInfo

Channels = tuple[float, ...]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _files(
    name: str, classes: int, shape: tuple[int, int, int], mean: Channels, std: Channels
) -> DatasetInfo:
    put = LOCATIONS[name].put
    note = f" (or {LOCATIONS[name].download} MB are downloaded)" if LOCATIONS[name].download else ""
    return DatasetInfo(name, classes, shape, mean, std, files=f"put {put} of that folder{note}")


#: Mean and std of the training images in [0, 1]; those of Food-101 and of `imagefolder` are ImageNet's, those of
#: MNIST and FashionMNIST count the zeros of the padding to 32 x 32.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", 10, (1, 8, 8), (0.3050,), (0.3759,), builtin=True),
        DatasetInfo("digits-open", 6, (1, 8, 8), (0.3035,), (0.3765,), builtin=True),
        DatasetInfo("glyphs", 10, (3, 32, 32), (0.50, 0.50, 0.50), (0.29, 0.29, 0.29), builtin=True),
        _files("cifar10", 10, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        _files("cifar100", 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        _files("mnist", 10, (1, 32, 32), (0.1001,), (0.2752,)),
        _files("fashion-mnist", 10, (1, 32, 32), (0.2190,), (0.3318,)),
        _files("svhn", 10, (3, 32, 32), (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        _files("food101", 101, (3, 224, 224), *_IMAGENET),
        _files("tiny-imagenet", 200, (3, 64, 64), (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
        _files("imagenet", 1000, (3, 224, 224), *_IMAGENET),
        _files("imagefolder", 0, (3, 64, 64), *_IMAGENET),  # `get` counts its classes
    )
}


def get(name: str, data_dir: str = "") -> DatasetInfo:
    """Return the entry of a data set.

    Args:
        data_dir: for `imagefolder`: its class folders are counted, and an optional `dataset.json` beside
            `train/` may give "side" (pixels, default 64), "channels" (1 or 3), "mean" and "std". Without a
            folder its number of classes is 0.

    Raises:
        InputError: an unknown name; the nearest known one is suggested.
        DataFileError: `imagefolder` without two class folders, or a `dataset.json` that says something else.
    """
    if name not in DATASETS:
        raise InputError(unknown("dataset", name, DATASETS))
    info = DATASETS[name]
    return _counted(info, Path(data_dir).expanduser()) if name == "imagefolder" and data_dir else info


def _counted(info: DatasetInfo, root: Path) -> DatasetInfo:
    classes = len(class_folders(root / "train"))
    if classes < 2:
        raise DataFileError(f"{root / 'train'} has {classes} class folders; a classifier needs 2 at least")
    info = replace(info, num_classes=classes)
    path = root / "dataset.json"
    if not path.is_file():
        return info
    try:
        said = json.loads(path.read_text())
        side, channels = int(said.pop("side", 64)), int(said.pop("channels", 3))
        mean, std = (
            tuple(float(v) for v in said.pop(key, default[:channels]))
            for key, default in (("mean", info.mean), ("std", info.std))
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    fits = (
        not said
        and 4 <= side <= 4096
        and channels in (1, 3)
        and len(mean) == len(std) == channels
        and all(math.isfinite(m) for m in mean)
        and all(0 < s < math.inf for s in std)
    )
    if not fits:
        raise DataFileError(
            f"{path} may give side (4 to 4096), channels (1 or 3), mean and std (one number per channel, std > 0)"
        )
    return replace(info, shape=(channels, side, side), mean=mean, std=std)
