"""Specs of data sets that are named by where they are: `npz:FILE` and the user's code, `./file.py:make`. No torch."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described_type
from trainables.base.user_code import UserCode
from trainables.data.types.dataset_spec import DatasetSpec, OodRoles

FROM_FILES = "trainables.data.loading.from_files:load"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

ARRAYS = "npz:"
_ARRAYS = "trainables.data.readers.own_arrays:own_arrays"
_CODE = "trainables.data.loading.own_factory:own_sets"


class OwnDatasets(OwnSpecs[DatasetSpec]):
    """Makes the specs of data sets that are named by where they are; the `others` of the registry of data sets.

    Nothing is opened. Classes, shape, mean and std are those of what is found there, see `dataset_info`.
    """

    def __init__(self) -> None:
        super().__init__("dataset", "datasets", _of_code)

    def __call__(self, name: str) -> DatasetSpec | None:
        """Return the spec of `npz:PATH`, whose own name has the absolute path, or of the user's code; else None."""
        path = array_path(name)
        if path:
            return _spec(f"{ARRAYS}{os.path.abspath(Path(path).expanduser())}", _ARRAYS)
        return super().__call__(name)

    def code(self, name: str) -> UserCode | None:
        """Return the code behind a name, None for arrays and unknown names."""
        return None if array_path(name) else super().code(name)


def _of_code(name: str, found: Any) -> DatasetSpec:
    """Return the spec of a function that returns data, or the spec that stands under its name."""
    if isinstance(found, DatasetSpec):
        return replace(found, name=name)
    if not callable(found):
        raise InputError(f"it is {described_type(found)}, not a function that returns data")
    return _spec(name, _CODE)


def array_path(name: str) -> str:
    """Return the path of a data set of arrays, "" for any other."""
    return name.removeprefix(ARRAYS) if name.startswith(ARRAYS) else ""


def how_to_give(name: str, group: str) -> str:
    """Return how data that are named by where they are come to have an OOD set of a group."""
    path = array_path(name)
    return f"add an array ood_{group}_NAME to {path}" if path else f"have {name} return some under {group!r}"


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
        mirrors=True,
    )
