"""Data sets that the user's code gives: a function that returns `torch.utils.data.Dataset`s, arrays or a `Benchmark`.

docs/own_data.md says what it may return. It is called once in each process that reads the data; what it returns is read
when it is needed, and other processes call it themselves.
"""

import dataclasses
import inspect
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from trainables.base.errors import DataFileError, foreign_code, nearest
from trainables.data.loading.dataset_pictures import DatasetPictures, is_map_style, labels_of, names_of
from trainables.data.readers.array_pictures import ArrayPictures
from trainables.data.readers.image_readers import Pictures
from trainables.data.readers.own_sets import (
    OOD_SPLITS,
    OwnSets,
    check_names,
    check_side,
    class_count,
    names_in,
    normalisation,
    numbered,
)
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.datasets import DATASETS
from trainables.data.types.lazy_images import Shape, Source
from trainables.data.types.own_ood import check_ood_name, check_ood_twins
from trainables.data.types.splits import DatasetInfo, Split

PARTS = {"train": Split.TRAIN, "val": Split.VAL_ID, "test": Split.TEST_ID}
GROUPS = {"near": "near", "far": "far", "ood_val": "val"}
FACTS = ("classes", "size", "mean", "std")
KEYS = (*PARTS, *GROUPS, *FACTS)
GIVEN = ("data_dir",)  #: what the function may ask for, by the names of its parameters
_ONE_CALL = threading.RLock()  # of several threads that need the data, one calls the function
_LOOKED_AT = 32  #: items whose sizes are compared
_TWICE = 3  #: items of each set that are read twice


def own_sets(name: str, data_dir: str = "") -> OwnSets:
    """Return what the code behind a name returns.

    Raises:
        InputError: the code is not there, or the user has not named it.
        DataFileError: it raises, or what it returns does not suit; one line.
    """
    code = DATASETS.code(DATASETS[name].name)
    assert code is not None
    with _ONE_CALL:
        return _made(name, data_dir, tuple(sorted(code.digests().items())))


def forget() -> None:
    """Let go of what was returned; it is made again when it is needed."""
    _made.cache_clear()


@lru_cache(maxsize=1)
def _made(name: str, data_dir: str, digests: tuple[tuple[str, str], ...]) -> OwnSets:
    return _checked(name, data_dir, _call(name, data_dir))


def _call(name: str, data_dir: str) -> Any:
    """Call the user's function with those of the given arguments that it names; it draws the same each time."""
    code = DATASETS.code(name)
    assert code is not None
    function = code.load()
    parameters = inspect.signature(function).parameters.values()
    wanted = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in wanted if p.default is p.empty and p.name not in GIVEN]
    if missing:
        raise DataFileError(
            f"dataset {name}: its parameter {missing[0]} has no default; what is given: {', '.join(GIVEN)}"
        )
    arguments = {p.name: data_dir for p in wanted if p.name in GIVEN}
    with foreign_code(DataFileError, f"dataset {name}: it raises "), _fixed_seeds():
        return function(**arguments)


@contextmanager
def _fixed_seeds() -> Iterator[None]:
    """Seed the global generators, so that a split that draws from them is the same in every process."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


# -- what it returned ------------------------------------------------------------------------------------------


def _checked(name: str, data_dir: str, found: Any) -> OwnSets:
    if isinstance(found, Benchmark):
        return _of_benchmark(name, found)
    given = _entries(name, found)
    reach = _Reach(name, data_dir)
    sources = {part: reach.source(given[part], PARTS[part], "id") for part in PARTS if part in given}
    raw = {part: labels_of(given[part], source, reach.place(part)) for part, source in sources.items()}
    classes = _class_names(name, given) or names_in(raw["train"])
    labels = {
        part: numbered(raw[part], len(source), reach.place(part), classes) for part, source in sources.items()
    }
    count = class_count({reach.place(part): values for part, values in labels.items()}, classes)
    sets: dict[Split, dict[str, Pictures]] = {
        PARTS[part]: {"id": Pictures(source, labels[part], bool((np.diff(labels[part]) >= 0).all()))}
        for part, source in sources.items()
    }
    for key, group in GROUPS.items():
        ood = {each: reach.source(data, OOD_SPLITS[group], each) for each, data in given.get(key, {}).items()}
        if ood:
            sets[OOD_SPLITS[group]] = {each: _unlabelled(source) for each, source in ood.items()}
    shape = _shape(name, given.get("size"), sources["train"])
    mean, std = normalisation(given.get, shape[0], DATASETS[name].info, f"dataset {name}")
    info = DatasetInfo(name, count, shape, mean, std, builtin=True, classes=classes)
    return OwnSets(info, sets, check=lambda: _check_twice(name, data_dir))


def _entries(name: str, found: Any) -> dict[str, Any]:
    """Return what the function gives by its names.

    Raises:
        DataFileError: an unknown name, a part that is missing, or something else than names.
    """
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        found = {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    if not isinstance(found, Mapping):
        raise DataFileError(
            f"dataset {name}: it returns {type(found).__name__}; want a dict with train and test, and val, near, far, "
            "ood_val if there are any, or a Benchmark"
        )
    given = {str(key): value for key, value in found.items() if value is not None}
    for key in given:
        if key not in KEYS:
            raise DataFileError(
                f"dataset {name}: it returns {key!r}, which nothing reads; {nearest(key, KEYS)}"
            )
    missing = [part for part in ("train", "test") if part not in given]
    if missing:
        raise DataFileError(f"dataset {name}: it returns no {' and no '.join(missing)}")
    spec = DATASETS[name]
    found_names: dict[str, list[str]] = {group: [] for group in OOD_SPLITS}
    for key, group in GROUPS.items():
        if not isinstance(given.get(key, {}), Mapping):
            raise DataFileError(
                f"dataset {name}: {key} is {type(given[key]).__name__}; want a dict of OOD sets by name"
            )
        for each in given.get(key, {}):
            check_ood_name(spec, group, str(each), f"{key}[{each!r}] of {name}", "it")
            found_names[group].append(str(each))
    check_ood_twins(found_names, lambda group, each: f"{group}[{each!r}]")
    return given


@dataclasses.dataclass(frozen=True)
class _Place:
    """Finds a set of a function again, in any process."""

    name: str
    data_dir: str
    split: Split
    of: str

    def __call__(self) -> Source:
        return own_sets(self.name, self.data_dir).sets[self.split][self.of].source


@dataclasses.dataclass(frozen=True)
class _Reach:
    """Makes sources of what a function gives; they find it again in other processes."""

    name: str
    data_dir: str

    def place(self, key: str) -> str:
        return f"{key} of {self.name}"

    def source(self, data: Any, split: Split, of: str) -> Source:
        place = self.place({split: part for part, split in PARTS.items()}.get(split, of))
        images = data[0] if isinstance(data, tuple | list) and len(data) == 2 and of == "id" else data
        if isinstance(images, np.ndarray | torch.Tensor):
            array = np.asarray(images)
            return ArrayPictures(place, array, array.shape, array.dtype)
        if not is_map_style(data):
            kind = type(data).__name__
            hint = (
                "give its dataset"
                if kind == "DataLoader"
                else "want a map-style Dataset, or (images, labels)"
            )
            raise DataFileError(f"{place} is of type {kind}; {hint}")
        if not len(data):
            raise DataFileError(f"{place} is empty")
        return DatasetPictures(place, data, _Place(self.name, self.data_dir, split, of))


def _class_names(name: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that the function gives, else those that its training data set has, () for none."""
    if "classes" in given:
        return check_names([str(each) for each in given["classes"]], f"classes of {name}")
    train = names_of(given["train"])
    for part in ("val", "test"):
        other = names_of(given[part]) if part in given else ()
        if train and other and other != train:
            differs = sorted(set(other) ^ set(train))[:3] or ["their order differs"]
            raise DataFileError(f"{part} of {name} has other classes than train: {', '.join(differs)}")
    return train if len(set(train)) == len(train) else ()


def _shape(name: str, size: Any, train: Source) -> Shape:
    """Return (c, h, w) of the task: the size that the function gives, else that of its images."""
    if isinstance(train, ArrayPictures):
        channels, *own = train.shape
    else:
        rows = np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).astype(int)).tolist()
        pictures = [train.picture(row) for row in rows]
        channels = 1 if all(picture.mode == "L" for picture in pictures) else 3
        sizes = sorted({(picture.height, picture.width) for picture in pictures})
        own = list(sizes[0])
        if size is None and len(sizes) > 1:
            found = ", ".join(f"{width} x {height}" for height, width in (sizes[0], sizes[-1]))
            raise DataFileError(
                f"images of train of {name} differ in size ({found}); return size too: pixels a side, or (height, "
                "width)"
            )
    if size is not None:
        own = [size, size] if isinstance(size, int) else list(size)
        if len(own) != 2 or not all(isinstance(side, int) for side in own):
            raise DataFileError(f"dataset {name}: size is {size!r}; want pixels a side, or (height, width)")
    shape = (channels, own[0], own[1])
    check_side(shape, f"train of {name}")
    return shape


def _unlabelled(source: Source) -> Pictures:
    return Pictures(source, np.full(len(source), -1, np.int64), sorted=True)


def _of_benchmark(name: str, found: Benchmark) -> OwnSets:
    """Return what a `Benchmark` holds, under the name of the data set."""
    sets: dict[Split, dict[str, Pictures]] = {}
    for split, of_split in found.parts.items():
        sets[split] = {}
        for each, data in of_split.items():
            place = f"{split.value}/{each} of {name}"
            images = np.asarray(data.images)
            source = ArrayPictures(place, images, images.shape, images.dtype)
            sets[split][each] = Pictures(
                source, numbered(np.asarray(data.labels), len(source), place, ()), sorted=False
            )
    missing = [split.value for split in (Split.TRAIN, Split.TEST_ID) if not sets.get(split)]
    if missing:
        raise DataFileError(f"dataset {name}: its Benchmark has no {' and no '.join(missing)}")
    for group, split in OOD_SPLITS.items():
        for each in sets.get(split, {}):
            check_ood_name(DATASETS[name], group, each, f"{split.value}/{each} of {name}", "it")
    labels = {
        f"{split.value} of {name}": pictures.labels
        for split in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)
        for pictures in sets.get(split, {}).values()
    }
    own = found.info
    count = class_count(labels, own.classes)
    if count != own.num_classes:
        whose = "names" if own.classes else "its labels have"
        raise DataFileError(
            f"dataset {name}: its Benchmark says {own.num_classes} classes and {whose} {count}"
        )
    shape = sets[Split.TRAIN]["id"].source.shape  # type: ignore[attr-defined]
    if shape != own.shape:
        raise DataFileError(f"dataset {name}: its Benchmark says images {own.shape} and holds {shape}")
    return OwnSets(dataclasses.replace(own, name=name, builtin=True, files=""), sets, found.notes)


def _check_twice(name: str, data_dir: str) -> list[str]:
    """Refuse a function that gives other data each time, and data sets whose items change when they are read again."""
    first = own_sets(name, data_dir).sets
    again = _checked(name, data_dir, _call(name, data_dir)).sets
    for split, sets in first.items():
        for of, pictures in sets.items():
            source, other = pictures.source, again[split][of].source
            place = getattr(source, "place", f"{split.value}/{of}")
            rows = np.unique(np.linspace(0, len(source) - 1, _TWICE).astype(int)).tolist()
            if any(_pixels(source, row) != _pixels(source, row) for row in rows):
                raise DataFileError(
                    f"{place}: an item is another image when it is read again; leave random transforms out, and let "
                    "--set augment=crop_flip do it, so that a resume continues exactly"
                )
            same = len(source) == len(other) and np.array_equal(pictures.labels, again[split][of].labels)
            if not same or any(_pixels(source, row) != _pixels(other, row) for row in rows):
                raise DataFileError(
                    f"{place}: it holds other images when the function is called again; seed its random split: the "
                    "tests would be trained on"
                )
    return []


def _pixels(source: Source, row: int) -> tuple[tuple[int, int], bytes]:
    picture = source.picture(row)
    return picture.size, picture.tobytes()
