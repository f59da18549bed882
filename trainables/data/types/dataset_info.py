"""Look up a data set's classes, shape, mean and std; some are read from its folder. No torch."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.base.errors import DataFileError, nearest
from trainables.base.registry import resolve_reference
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import access_told, find_folder
from trainables.data.types.picture_files import class_folders
from trainables.data.types.splits import DatasetInfo


@access_told()
def dataset_info(name: str, data_dir: str = "") -> DatasetInfo:
    """Return what is known of a data set without opening its images.

    Args:
        data_dir: of a data set whose spec has no number of classes (`imagefolder`), the class folders below `train/`
            are counted here, and an optional `dataset.json` beside `train/` may give "side" (pixels, default 64),
            "channels" (1 or 3), "mean" and "std". Without a folder its number of classes is 0. Names of classes that
            only the files have are read from them, where they are there. Of arrays and own code (`npz:FILE`) all facts
            are those of what is in them.

    Raises:
        InputError: an unknown name; the nearest known one is suggested.
        DataFileError: `imagefolder` without two class folders, a `dataset.json` that says something else, or a folder
            that may not be read.
    """
    spec = DATASETS[name]
    info = spec.info
    if spec.sets:
        own: DatasetInfo = resolve_reference(spec.sets)(spec.name, data_dir).info
        return own
    if not data_dir or spec.files is None:
        return info
    if info.num_classes == 0:
        return _counted(info, Path(data_dir).expanduser())
    root = find_folder(name, data_dir, "train") if spec.files.classes else None
    if root is None:
        return info
    classes = tuple(resolve_reference(spec.files.classes)(root))
    # another number of them is told by the reader, which knows what is wrong
    return replace(info, classes=classes) if len(classes) == info.num_classes else info


def _counted(info: DatasetInfo, root: Path) -> DatasetInfo:
    _check_layout(root)
    classes = class_folders(root / "train")
    if len(classes) < 2:
        raise DataFileError(
            f"{root / 'train'} has {len(classes) or 'no'} class folder{'' if len(classes) == 1 else 's'}; a classifier "
            "needs 2 at least"
        )
    info = replace(info, num_classes=len(classes), classes=tuple(classes))
    path = root / "dataset.json"
    given = _stated(path)
    found: dict[str, Any] = {"side": 64, "channels": 3} | given
    channels = found["channels"]
    checks = {
        "side": (_whole(found["side"]) and 4 <= found["side"] <= 4096, "a whole number from 4 to 4096"),
        "channels": (_whole(channels) and channels in (1, 3), "1 or 3"),
        "mean": ("mean" not in given or _numbers(given["mean"], channels), "one number per channel"),
        "std": (
            "std" not in given or _numbers(given["std"], channels, above=0),
            "one number above 0 per channel",
        ),
    }
    for key, value in found.items():
        if key not in checks:
            raise DataFileError(f"{path} has {key!r}, which nothing reads; {nearest(key, checks)}")
        right, wanted = checks[key]
        if not right:
            raise DataFileError(f"{path}: {key} is {json.dumps(value)}; want {wanted}")
    mean, std = (
        tuple(map(float, found.get(key, default[:channels])))
        for key, default in (("mean", info.mean), ("std", info.std))
    )
    return replace(info, shape=(channels, found["side"], found["side"]), mean=mean, std=std)


def _stated(path: Path) -> dict[str, Any]:
    """Return what a `dataset.json` says, {} where there is none.

    Raises:
        DataFileError: it is no file (a folder, a pipe, a link to nothing), or no JSON object of names that differ.
    """
    if not os.path.lexists(path):
        return {}
    if not path.is_file():  # a pipe would wait for its writer
        what = "a link to nothing" if path.is_symlink() and not path.exists() else "no regular file"
        raise DataFileError(f'{path} is {what}; want a file with {{"side": 64}}, for example, or remove it')
    try:
        # bytes: whatever mark of byte order they begin with
        given = json.loads(path.read_bytes(), object_pairs_hook=_different)
    except RecursionError as error:
        raise DataFileError(f"{path} cannot be read: it is nested too deeply") from error
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise DataFileError(f'{path} is no object of names and values; want {{"side": 64}}, for example')
    return given


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError if it has a name twice, of which one would be lost in silence."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it has {name!r} twice; keep one")
        found[name] = value
    return found


def _check_layout(root: Path) -> None:
    """Raise DataFileError if the folders of a user's own pictures are not there."""
    if not root.is_dir():
        raise DataFileError(f"{root} is not a folder")
    if (root / "train").is_dir() and ((root / "test").is_dir() or (root / "val").is_dir()):
        return
    lacking = "train/" if not (root / "train").is_dir() else "test/"
    held = ", ".join(f"{name}/" for name in class_folders(root)) or "no folders"
    raise DataFileError(
        f"{root} has no {lacking} but {held}; what is read: {root}/train/<class>/ and {root}/test/<class>/ "
        "(docs/own_data.md)"
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(values: object, count: object, above: float = -1e6) -> bool:
    """Whether a value is a list of so many numbers between a bound and a million."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and all(above < v < 1e6 for v in values)
    )
