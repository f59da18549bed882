"""Specs of data sets that are named by where they are: `npz:FILE`, arrays of the user's own. No torch."""

import os
from pathlib import Path

from trainables.base.user_code import UserCode
from trainables.data.types.dataset_spec import DatasetSpec, OodRoles

FROM_FILES = "trainables.data.loading.from_files:load"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

ARRAYS = "npz:"
_ARRAYS = "trainables.data.readers.own_arrays:own_arrays"


class OwnDatasets:
    """Makes the specs of data sets that are named by where they are; the `others` of the registry of data sets."""

    names: tuple[str, ...] = ()

    def __call__(self, name: str) -> DatasetSpec | None:
        """Return the spec of `npz:PATH`, None for any other name; its own name has the absolute path.

        Nothing is opened. Classes, shape, mean and std are those of the arrays, see `dataset_info`.
        """
        path = array_path(name)
        if not path:
            return None
        return _spec(f"{ARRAYS}{os.path.abspath(Path(path).expanduser())}", _ARRAYS)

    def code(self, name: str) -> UserCode | None:
        """Return the code behind a name, None if it has none."""
        return None


def array_path(name: str) -> str:
    """Return the path of a data set of arrays, "" for any other."""
    return name.removeprefix(ARRAYS) if name.startswith(ARRAYS) else ""


def how_to_give(name: str, group: str) -> str:
    """Return how data that are named by where they are come to have an OOD set of a group."""
    return f"add an array ood_{group}_NAME to {array_path(name)}"


def _spec(name: str, sets: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        num_classes=0,
        shape=(3, 64, 64),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        robust_epsilons=(),
        ood_epsilons=(),
        loader=FROM_FILES,
        files=None,
        roles=OodRoles((), ("gaussian", "uniform"), own=True),
        sets=sets,
    )
