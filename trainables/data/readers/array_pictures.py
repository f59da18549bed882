"""`ArrayPictures`: an array of the user's images, in memory or mapped from a file, as pictures of 8 bits. No torch."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainables.base.errors import DataFileError
from trainables.data.readers.npz_arrays import array_of_file
from trainables.data.types.lazy_images import Shape

Array = np.ndarray

_ROUNDING = 0.5 / 255  #: so far outside of [0, 1] a number may be: it is rounded to 0 or 255


class ArrayFile:
    """An array of an npz file, or of an npy file (key ""), read when it is needed; it pickles as its place."""

    def __init__(self, path: Path, key: str = "") -> None:
        self.path, self.key = str(path), key
        self._array: Array | None = None

    def array(self) -> Array:
        """Return the array, mapped from disk where it is large.

        Raises:
            DataFileError: the file is gone, or damaged.
        """
        if self._array is None:
            if not Path(self.path).is_file():
                raise DataFileError(
                    f"{self.path} is not on this machine; the nodes of a cluster must share the folder"
                )
            self._array = array_of_file(Path(self.path), self.key)
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


class ArrayPictures:
    """Pictures of an array (n, h, w), (n, h, w, c) or (n, c, h, w); numbers in [0, 1] are rounded to 256 levels.

    A `Source` of `LazyImages`.
    """

    def __init__(
        self, place: str, images: Array | ArrayFile, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        """Wrap an array.

        Args:
            place: where the array is, for messages.
            images: the array.
            shape, dtype: as its header has them.

        Raises:
            DataFileError: they are not those of images; see `channel_axis`.
        """
        self.place, self.images, self.count = place, images, shape[0] if shape else 0
        self.axis, self.shape = channel_axis(shape, dtype, place)
        self.dtype = dtype

    def __len__(self) -> int:
        return self.count

    def pixels(self, rows: Array) -> Array:
        """Return uint8 (k, c, h, w).

        Raises:
            DataFileError: a number that is not in [0, 1]; one line that names the image.
        """
        array = self.images.array() if isinstance(self.images, ArrayFile) else self.images
        values = np.asarray(array[rows])
        if self.axis is None:
            values = values[:, None]
        elif self.axis == 3:
            values = values.transpose(0, 3, 1, 2)
        return values if values.dtype == np.uint8 else eight_bits(values, rows, self.place)

    def picture(self, row: int) -> Image.Image:
        pixels = self.pixels(np.array([row]))[0]
        return Image.fromarray(
            np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        )

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        if not len(rows):
            return np.empty((0, *shape), np.uint8)
        if self.shape[1:] != shape[1:] or self.shape[0] > shape[0]:
            return None
        pixels = self.pixels(rows)
        return np.ascontiguousarray(np.broadcast_to(pixels, (len(pixels), *shape)))

    def identity(self) -> Iterator[bytes]:
        # all of a large array would be gigabytes; rows from all over tell one from another
        rows = np.unique(np.linspace(0, max(0, self.count - 1), 64).astype(int))[: self.count]
        yield f"{self.count} ".encode()
        yield b"%d" % zlib.crc32(np.ascontiguousarray(self.pixels(rows)).tobytes())


def eight_bits(values: Array, rows: Array, place: str) -> Array:
    """Return numbers in [0, 1] as uint8 0..255, rounded.

    Args:
        rows: (k,) the numbers of the images, for the message.

    Raises:
        DataFileError: a number that is not finite, or not in [0, 1].

    Example:
        (0, 0.5, 1) becomes (0, 128, 255)
    """
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1), flat.max(1)
    wrong = np.flatnonzero(~((low >= -_ROUNDING) & (high <= 1 + _ROUNDING)))  # NaN is neither
    if len(wrong):
        first = wrong[0]
        what = (
            "numbers that are not finite"
            if not np.isfinite(flat[first]).all()
            else (f"values from {low[first]:g} to {high[first]:g}")
        )
        raise DataFileError(
            f"{place}: image {int(rows[first])} has {what}; images of floats must be in [0, 1], and not normalised: "
            "networks do that"
        )
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def channel_axis(shape: tuple[int, ...], dtype: np.dtype, place: str) -> tuple[int | None, Shape]:
    """Return the axis of the channels of an array of images, None for grey ones without, and their (c, h, w).

    Raises:
        DataFileError: no images, neither uint8 nor floats, or channels that cannot be told from pixels.
    """
    have = f"{place} is {dtype} {' x '.join(map(str, shape))}"
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataFileError(f"{have}; want uint8 in 0..255 or floats in [0, 1]")
    if len(shape) == 3 and shape[0]:
        return None, (1, shape[1], shape[2])
    last, first = (len(shape) == 4 and shape[axis] in (1, 3) for axis in (3, 1))
    if not shape[:1] or not shape[0] or last == first:
        raise DataFileError(f"{have}; want n x h x w x c, n x c x h x w or n x h x w, of 1 or 3 channels")
    if last:
        return 3, (shape[3], shape[1], shape[2])
    return 1, (shape[1], shape[2], shape[3])
