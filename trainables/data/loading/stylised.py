"""`StylisedLoader`: a stylised copy of the training set with its labels, from class folders or one npz file."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainables.base.errors import DataFileError, InputError
from trainables.data.loading.device_loader import augment, to_device, to_unit
from trainables.data.loading.stream_loader import OnDemand
from trainables.data.readers.image_readers import class_tree
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.splits import DatasetInfo


class StylisedPictures(Protocol):
    """Something that holds labelled pictures.

    Attributes:
        labels: (n,) int64 on the device.
    """

    labels: Tensor

    def take(self, rows: Tensor) -> Tensor:
        """Return uint8 (len(rows), c, h, w) on the device; rows are int64 on the CPU."""


class StylisedLoader:
    """An endless stream of labelled stylised images, reshuffled after each pass over all of them.

    An npz file lives on the device. Of class folders only the names are held and each picture is read when
    it is drawn, so that a copy may be larger than memory.
    """

    def __init__(
        self,
        path: str,
        info: DatasetInfo,
        device: torch.device | str,
        generator: torch.Generator,
        augmentation: str,
    ) -> None:
        """Open the copy.

        Raises:
            InputError: no path.
            DataFileError: nothing there, or not in one of the two formats; one line that names the file.
        """
        self.pictures = open_pictures(path, info, device)
        self.generator = generator
        self.augmentation = augmentation
        self._order = torch.empty(0, dtype=torch.int64)

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images (count, c, h, w) in [0, 1] and their labels (count,).

        Raises:
            DataFileError: a picture cannot be read.
        """
        while len(self._order) < count:
            total = len(self.pictures.labels)
            fresh = torch.randperm(total, generator=self.generator, device=self.generator.device)
            self._order = torch.cat([self._order, fresh.cpu()])
        rows, self._order = self._order[:count], self._order[count:]
        images = augment(to_unit(self.pictures.take(rows)), self.augmentation, self.generator)
        return images, self.pictures.labels[rows.to(self.pictures.labels.device)]

    def state_dict(self) -> dict[str, Tensor]:
        """Return which images are still to come in this round; the generator is saved with the streams."""
        return {"order": self._order}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._order = state["order"].cpu()


def open_pictures(path: str, info: DatasetInfo, device: torch.device | str) -> StylisedPictures:
    """Return the pictures of a folder or an npz file."""
    if not path:
        raise InputError(
            "sin_rows is above 0 but sin_dir is empty; it must name the stylised copy of the training set"
        )
    root = Path(path).expanduser()
    if root.is_dir():
        return _Folders(root, info, device)
    if not root.is_file():
        raise DataFileError(f"sin_dir {root} does not exist")
    return _Array(root, info, device)


class _Array:
    """The arrays image, uint8 (n, h, w, c), and label, integers (n,), of an npz file."""

    def __init__(self, path: Path, info: DatasetInfo, device: torch.device | str) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("image", "label") if name in file.files}
                known = ", ".join(file.files) or "nothing"
        except Exception as error:  # zip, zlib and numpy errors alike: a damaged file may raise any of them
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataFileError(f"{path} is not a whole npz file: {text}") from error
        if len(arrays) < 2:
            raise DataFileError(
                f"{path} needs arrays image (uint8, n x h x w x c) and label (n); it holds {known}"
            )
        images, labels = arrays["image"], arrays["label"]
        c, h, w = info.shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (h, w, c) or not len(images):
            have = " x ".join(map(str, images.shape))
            raise DataFileError(f"{path}: image is {images.dtype} {have}; want uint8 n x {h} x {w} x {c}")
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise DataFileError(
                f"{path}: label is {labels.dtype} {labels.shape}; want integers ({len(images)},)"
            )
        if labels.min() < 0 or labels.max() >= info.num_classes:
            raise DataFileError(
                f"{path}: labels run from {labels.min()} to {labels.max()}; want 0 to {info.num_classes - 1}"
            )
        self.images = to_device(images.transpose(0, 3, 1, 2), device)
        self.labels = to_device(labels.astype(np.int64), device)

    def take(self, rows: Tensor) -> Tensor:
        return self.images[rows.to(self.images.device)]


class _Folders:
    """One folder of image files per class; each picture is decoded when it is drawn."""

    def __init__(self, root: Path, info: DatasetInfo, device: torch.device | str) -> None:
        root = root / "train" if (root / "train").is_dir() else root
        if info.shape[0] not in (1, 3):
            raise DataFileError(
                f"sin_dir: image files have 1 or 3 channels, not {info.shape[0]}; use an npz file"
            )
        tree = class_tree(root, info.num_classes)
        self.images = OnDemand(LazyImages(tree.source, info.shape), device)
        self.labels = to_device(tree.labels, device)
        self.images[[0]]  # a copy with unreadable images is refused now, not in the middle of an epoch

    def take(self, rows: Tensor) -> Tensor:
        return self.images[rows]
