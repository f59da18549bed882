"""The user's own OOD sets: the folders of pictures below `ood/near/`, `ood/far/` and `ood/val/`. No torch.

What lies elsewhere below `ood/` would be left out of the tests without a word, so it is refused with the right layout.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from trainables.base.errors import DataFileError
from trainables.base.registry import resolve_reference
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.datasets import DATASETS
from trainables.data.types.picture_files import class_folders, loose_pictures, picture_files

GROUPS = ("near", "far", "val")  #: two kinds of tests, and what search may read
#: Names by which metrics and stored scores mean something else.
_RESERVED = frozenset({"id", "near", "far", "all", "other", "unknown"})
_NAME = re.compile(r"[\w.\- ]{1,100}")  # what MLflow takes in the name of a metric


def own_ood_sets(dataset: str, data_dir: str) -> dict[str, list[str]]:
    """Return {"near": names of the sets, "far": ..., "val": ...}; no names where the data set has none of the user's.

    Raises:
        DataFileError: pictures or folders in another place, a set without pictures or with folders inside, a name that
            is taken; one line with the folder and the layout that would be right.
    """
    spec = DATASETS[dataset]
    if spec.sets:
        return resolve_reference(spec.sets)(dataset, data_dir).ood_names
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    root = Path(data_dir).expanduser() / "ood"
    if not spec.users_own or spec.roles is None or not root.is_dir():
        return found
    _refuse_loose(root, " or ".join(f"{root}/{group}/<set>/" for group in GROUPS))
    for name in class_folders(root):
        if name not in GROUPS:
            raise DataFileError(
                f"{root / name} is not read: OOD sets are folders in near/ or far/, or in val/ for validation; "
                f"move it to {root}/near/{name}, {root}/far/{name} or {root}/val/{name}"
            )
        _refuse_loose(root / name, f"{root / name}/<set>/")
        found[name] = class_folders(root / name)
    for group, names in found.items():
        for name in names:
            check_ood_name(spec, group, name, str(root / group / name), "the folder")
            _check_pictures(root / group / name)
    check_ood_twins(found, lambda group, name: str(root / group / name))
    return found


def check_ood_twins(found: Mapping[str, Collection[str]], place: Callable[[str, str], str]) -> None:
    """Refuse a near and a far set of one name.

    Args:
        found: {"near": names, "far": names}.
        place: names a set for the message, from its group and its name.
    """
    for name in sorted(set(found["near"]) & set(found["far"])):
        raise DataFileError(
            f"{place('near', name)} and {place('far', name)} have one name, which their metrics would share; "
            "rename one of them"
        )


def _refuse_loose(folder: Path, place: str) -> None:
    loose = loose_pictures(folder)
    if loose:
        more = f" and {len(loose) - 1} more pictures" if len(loose) > 1 else ""
        raise DataFileError(f"{folder} holds {loose[0]}{more} outside of a set; put them into {place}")


def check_ood_name(spec: DatasetSpec, group: str, name: str, place: str, what: str) -> None:
    """Refuse a name of an OOD set by which metrics mean something else, or that MLflow does not take.

    Args:
        place: where the set is, for the message.
        what: is to be renamed.
    """
    own = () if spec.roles is None else spec.roles.validation if group == "val" else spec.roles.tested
    if name in _RESERVED or name in own or name.endswith(" attacked"):
        owner = "the validation's" if group == "val" else "the tests'"
        raise DataFileError(f"{place}: the name {name!r} is taken by {owner} own; rename {what}")
    if not _NAME.fullmatch(name):
        raise DataFileError(
            f"{place}: the name of an OOD set may hold letters, digits, '.', '_', '-' and spaces (100 at most)"
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
