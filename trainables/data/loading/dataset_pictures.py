"""Map-style `torch.utils.data.Dataset`s of the user's as pictures and labels of 8 bits, one item at a time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils import data as torch_data

from trainables.base.errors import DataFileError, foreign_code
from trainables.data.readers.array_pictures import ArrayPictures
from trainables.data.types.lazy_images import Shape, Source
from trainables.data.types.read_picture import eight_bit_picture

Array = np.ndarray

_CHECKED = 16  #: items whose labels are compared with the data set's own list
#: Where data sets keep their labels, alone or behind each image's file, so that no item need be read.
LISTS, PAIRS = ("targets", "labels", "_labels", "y"), ("samples", "_samples")


class DatasetPictures:
    """Images of a map-style data set: PIL pictures, or arrays and tensors (h, w), (h, w, c) or (c, h, w).

    A `Source` of `LazyImages`. Items are asked for one at a time, unless the data set has an attribute `thread_safe`
    that is true. It pickles as the function that finds it again.
    """

    def __init__(self, place: str, dataset: Any, find: Callable[[], Source]) -> None:
        """Wrap a data set.

        Args:
            place: what it is, for messages.
            find: returns its `DatasetPictures` in another process.
        """
        self.place, self.dataset, self.find, self.count = place, dataset, find, len(dataset)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def item(self, row: int) -> Any:
        """Return an item as it is.

        Raises:
            DataFileError: the data set raises.
        """
        with self._lock:
            if self.dataset is None:
                found = self.find()
                assert isinstance(found, DatasetPictures)
                self.dataset = found.dataset
        lock: AbstractContextManager[Any] = self._lock
        if getattr(self.dataset, "thread_safe", False):
            lock = nullcontext()
        with foreign_code(DataFileError, f"{self.place}: item {row} cannot be read: "), lock:
            return self.dataset[row]

    def picture(self, row: int) -> Image.Image:
        item = self.item(row)
        image = item[0] if isinstance(item, tuple | list) and item else item
        place = f"{self.place}: item {row}"
        if isinstance(image, Image.Image):
            try:
                return eight_bit_picture(image)
            except DataFileError as error:
                raise DataFileError(f"{place} {error}") from None
        if not isinstance(image, np.ndarray | torch.Tensor):
            raise DataFileError(
                f"{place} is of type {type(image).__name__}; want (image, label), the image a PIL picture, an array or "
                "a tensor"
            )
        array = np.asarray(image)[None]
        return ArrayPictures(place, array, array.shape, array.dtype).picture(0)

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        return None

    def identity(self) -> Iterator[bytes]:
        yield f"{self.place} {self.count} ".encode()
        for row in np.unique(np.linspace(0, self.count - 1, 16).astype(int)).tolist():
            yield self.picture(row).tobytes()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "dataset": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def is_map_style(data: Any) -> bool:
    """Return whether an object has items by number and a length."""
    known = isinstance(data, str | bytes | dict | torch_data.IterableDataset | torch_data.DataLoader)
    return not known and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def labels_of(data: Any, source: Source, place: str) -> Array:
    """Return the labels of (images, labels), or of a map-style data set: of its own list, else of every item.

    Raises:
        DataFileError: there are none.
    """
    if isinstance(source, ArrayPictures):
        if not isinstance(data, tuple | list):
            raise DataFileError(f"{place} is images alone; want (images, labels)")
        return np.asarray(data[1])
    assert isinstance(source, DatasetPictures)
    listed = _listed(data)
    if listed is not None and listed.shape == (len(source),):
        rows = np.unique(np.linspace(0, len(source) - 1, _CHECKED).astype(int)).tolist()
        if all(_label(source, row) == listed[row] for row in rows):
            return listed
    return np.array([_label(source, row) for row in range(len(source))])


def _listed(data: Any) -> Array | None:
    """Return the labels that a data set keeps as a list, None if it has no such list."""
    if isinstance(data, torch_data.Subset):
        whole = _listed(data.dataset)
        return None if whole is None else whole[np.asarray(data.indices, dtype=int)]
    if isinstance(data, torch_data.ConcatDataset):
        parts = [_listed(part) for part in data.datasets]
        return (
            None
            if any(part is None for part in parts)
            else np.concatenate([p for p in parts if p is not None])
        )
    if isinstance(data, torch_data.TensorDataset):
        return np.asarray(data.tensors[1]) if len(data.tensors) > 1 else None
    for name in (*LISTS, *PAIRS):
        found = getattr(data, name, None)
        if not isinstance(found, list | tuple | np.ndarray | torch.Tensor) or len(found) != len(data):
            continue
        if name in PAIRS:
            found = [each[-1] if isinstance(each, tuple) else None for each in found]
        labels = np.asarray(found)
        if labels.ndim == 1 and labels.dtype.kind in "iuU":
            return labels
    return None


def _label(source: DatasetPictures, row: int) -> Any:
    item = source.item(row)
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataFileError(f"{source.place}: item {row} has no label; want (image, label)")
    label = item[1]
    if isinstance(label, np.generic | np.ndarray | torch.Tensor) and np.asarray(label).size == 1:
        label = label.item()
    if not isinstance(label, int | str):
        raise DataFileError(
            f"{source.place}: the label of item {row} is of type {type(label).__name__}; want a whole number or a name"
        )
    return label


def names_of(data: Any) -> tuple[str, ...]:
    """Return the names of the classes that a data set has in `classes`, () if it has none."""
    while isinstance(data, torch_data.Subset | torch_data.ConcatDataset):
        data = data.dataset if isinstance(data, torch_data.Subset) else data.datasets[0]
    found = getattr(data, "classes", None)
    if not isinstance(found, list | tuple):
        return ()
    names = [each[0] if isinstance(each, tuple) and each else each for each in found]
    return tuple(names) if all(isinstance(each, str) for each in names) else ()
