"""The user's own OOD test sets: the folders of pictures below `ood/near/` and `ood/far/` of the data folder. No torch.

What lies elsewhere below `ood/` would be left out of the tests without a word, so it is refused with the right layout.
"""

import re
from pathlib import Path

from trainables.base.errors import DataFileError
from trainables.data.types.datasets import DATASETS
from trainables.data.types.picture_files import class_folders, loose_pictures, picture_files

GROUPS = ("near", "far")
#: Names by which metrics and stored scores mean something else.
_RESERVED = frozenset({"id", "near", "far", "all", "other", "unknown"})
_NAME = re.compile(r"[\w.\- ]{1,100}")  # what MLflow takes in the name of a metric


def own_ood_sets(dataset: str, data_dir: str) -> dict[str, list[str]]:
    """Return {"near": names of the sets, "far": ...}; no names where the data set takes no folders of the user.

    Raises:
        DataFileError: pictures or folders in another place, a set without pictures or with folders inside, a name that
            is taken; one line with the folder and the layout that would be right.
    """
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    spec = DATASETS[dataset]
    root = Path(data_dir).expanduser() / "ood"
    if not spec.users_own or spec.roles is None or not root.is_dir():
        return found
    _refuse_loose(root, f"{root}/near/<set>/ or {root}/far/<set>/")
    for name in class_folders(root):
        if name not in GROUPS:
            raise DataFileError(
                f"{root / name} is not read: OOD test sets are folders in near/ or far/; "
                f"move it to {root}/near/{name} or {root}/far/{name}"
            )
        _refuse_loose(root / name, f"{root / name}/<set>/")
        found[name] = class_folders(root / name)
    for group, names in found.items():
        for name in names:
            _check_name(root / group / name, {*_RESERVED, *spec.roles.tested})
            _check_pictures(root / group / name)
    for name in sorted(set(found["near"]) & set(found["far"])):
        raise DataFileError(
            f"{root / 'near' / name} and {root / 'far' / name} have one name, which their metrics would share; "
            "rename one of them"
        )
    return found


def _refuse_loose(folder: Path, place: str) -> None:
    loose = loose_pictures(folder)
    if loose:
        more = f" and {len(loose) - 1} more pictures" if len(loose) > 1 else ""
        raise DataFileError(f"{folder} holds {loose[0]}{more} outside of a set; put them into {place}")


def _check_name(folder: Path, taken: set[str]) -> None:
    if folder.name in taken or folder.name.endswith(" attacked"):
        raise DataFileError(
            f"{folder}: the name {folder.name!r} is taken by the tests' own; rename the folder"
        )
    if not _NAME.fullmatch(folder.name):
        raise DataFileError(
            f"{folder}: the name of an OOD set may hold letters, digits, '.', '_', '-' and spaces (100 at most)"
        )


def _check_pictures(folder: Path) -> None:
    inner = [name for name in class_folders(folder) if picture_files(folder / name)]
    if inner:
        raise DataFileError(
            f"{folder} has pictures in folders of its own ({', '.join(inner[:3])}); put the pictures of the set into "
            f"{folder}/, or each of these folders into {folder.parent}/ as a set of its own"
        )
    if not loose_pictures(folder):
        raise DataFileError(f"{folder} holds no picture; put those of the set there, or remove the folder")
