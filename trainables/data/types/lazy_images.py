"""`LazyImages`: an array of images that are decoded when they are indexed. No torch.

It has the shape and the indexing of a uint8 array (n, c, h, w) and takes its place in sets that do not fit into memory:
it pickles as file names or as a small array, a slice of it is lazy too, and rows are decoded when they are indexed.

Pictures are brought to the task's size while they are Pillow images, before anything else: scaled bilinearly
with anti-aliasing to cover it, then cut to its centre. Scaling tensors later has another default in every
version of the libraries, and published OOD numbers on textures and noise depend on it.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trainables.base.errors import DataFileError
from trainables.data.types.read_picture import read_picture

Array = np.ndarray
Shape = tuple[int, int, int]

DECODERS = min(8, os.cpu_count() or 1)  #: threads that decode a set into an array
_BLOCK = 32


class Source(Protocol):
    """Pictures by row number."""

    def __len__(self) -> int: ...

    def picture(self, row: int) -> Image.Image:
        """Return one picture in its own size, in mode L or RGB.

        Raises:
            DataFileError: it cannot be decoded; one line that names the file.
        """

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        """Return rows as uint8 (len(rows), *shape) if they need no scaling or conversion, else None."""

    def identity(self) -> Iterator[bytes]:
        """Yield bytes that identify the content, for a fingerprint."""


class FileSource:
    """Picture files below a folder; only their names are held, 80 bytes each."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = str(root)
        self.names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> Path:
        return Path(self.root) / os.fsdecode(bytes(self.names[row]))

    def picture(self, row: int) -> Image.Image:
        return read_picture(self.path(row))

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        return None

    def identity(self) -> Iterator[bytes]:
        for row in range(len(self)):
            try:
                size = self.path(row).stat().st_size
            except OSError:
                size = -1
            yield bytes(self.names[row]) + b" %d\n" % size


class ArraySource:
    """Pictures of an array, uint8 (n, h, w) or (n, h, w, 3); it may be memory-mapped."""

    def __init__(self, pictures: Array) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, row: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.pictures[row]))

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        channels, height, width = shape
        if self.pictures.shape[1:3] != (height, width):
            return None
        chosen = self.pictures[rows]
        if chosen.ndim == 3:
            return np.ascontiguousarray(np.broadcast_to(chosen[:, None], (len(chosen), *shape)))
        return np.ascontiguousarray(chosen.transpose(0, 3, 1, 2)) if channels == 3 else None

    def identity(self) -> Iterator[bytes]:
        yield f"{self.pictures.shape}".encode()
        for start in range(0, len(self), 4096):
            yield np.ascontiguousarray(self.pictures[start : start + 4096]).tobytes()


class NpySource:
    """Rows of a npy file, uint8 (n, h, w, 3), memory-mapped in each process; it pickles as the file's name."""

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        self.path, self.start, self.stop = str(path), start, stop
        self._mapped: ArraySource | None = None

    def array(self) -> Array:
        """Return the rows, mapped from disk."""
        return self._source().pictures

    def _source(self) -> ArraySource:
        if self._mapped is None:
            try:
                mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                raise DataFileError(
                    f"{self.path} is not on this machine; the nodes of a cluster must share the folder"
                ) from None
            self._mapped = ArraySource(mapped[self.start : self.stop])
        return self._mapped

    def __len__(self) -> int:
        return len(self._source())

    def picture(self, row: int) -> Image.Image:
        return self._source().picture(row)

    def ready(self, rows: Array, shape: Shape) -> Array | None:
        return self._source().ready(rows, shape)

    def identity(self) -> Iterator[bytes]:
        # a checksum of 30 MB per severity would read gigabytes; rows from all over tell a file from another
        rows = np.linspace(0, len(self) - 1, 16).astype(int) if len(self) else np.arange(0)
        yield f"{Path(self.path).name} {self.start} {len(self)} ".encode()
        yield b"%d" % zlib.crc32(np.ascontiguousarray(self._source().pictures[rows]).tobytes())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


class LazyImages:
    """A read-only array of pictures of a source, in the task's shape; they are decoded when indexed.

    `x[3]` decodes one image, `x[[3, 1]]` or a boolean mask those, `np.asarray(x)` all; `x[2:9]` is lazy.

    Attributes:
        shape: (n, c, h, w).
        crop: the share of the covered picture's side that is kept; 0.875 is ImageNet's 224 of 256.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, source: Source, shape: Shape, rows: Array | None = None, crop: float = 1.0) -> None:
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.crop = crop
        self.shape = (len(self.rows), *shape)

    @property
    def picture_shape(self) -> Shape:
        return self.shape[1], self.shape[2], self.shape[3]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return LazyImages(self.source, self.picture_shape, self.rows[key], self.crop)
        if isinstance(key, tuple):
            return np.asarray(self)[key]
        if isinstance(key, int | np.integer):
            return self._decode(self.rows[np.array([key])])[0]
        return self._decode(self.rows[key if isinstance(key, list) else np.asarray(key)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("images that are not decoded yet cannot become an array without a copy")
        pixels = self._decode(self.rows)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def decode_into(self, out: Array, start: int = 0) -> None:
        """Decode rows start, start + 1, ... into out, uint8 (k, c, h, w), in the calling thread."""
        rows = self.rows[start : start + len(out)]
        ready = self.source.ready(rows, self.picture_shape)
        if ready is not None:
            out[:] = ready
            return
        for place, row in zip(out, rows, strict=True):
            place[:] = fit(self.source.picture(int(row)), self.picture_shape, self.crop)

    def identity(self) -> Iterator[bytes]:
        """Yield bytes that identify these images, for a fingerprint, without decoding them."""
        yield f"{self.shape} {self.crop} ".encode() + self.rows.tobytes()
        yield from self.source.identity()

    def _decode(self, rows: Array) -> Array:
        ready = self.source.ready(rows, self.picture_shape)
        if ready is not None:
            return ready
        part = LazyImages(self.source, self.picture_shape, rows, self.crop)
        out = np.empty(part.shape, np.uint8)
        starts = range(0, len(rows), _BLOCK)
        if len(starts) <= 1:
            part.decode_into(out)
            return out
        with ThreadPoolExecutor(min(DECODERS, len(starts))) as pool:
            try:
                list(pool.map(lambda s: part.decode_into(out[s : s + _BLOCK], s), starts))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return out


def cut(picture: Image.Image, shape: Shape, box: Sequence[float]) -> Array:
    """Return a window of a picture as uint8 (c, h, w), scaled to the shape, grey to RGB or back.

    Args:
        box: top, left, height and width in pixels.
    """
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    top, left, h, w = box
    corners = (left, top, left + w, top + h)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=corners))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def fit(picture: Image.Image, shape: Shape, crop: float = 1.0) -> Array:
    """Return a picture as uint8 (c, h, w): scaled to cover the shape, cut to the centre, grey to RGB or back.

    A picture that has the size already is not touched.
    """
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    if picture.size != (width, height):
        scale = min(picture.width / width, picture.height / height) * crop
        across, down = scale * width, scale * height
        # rounding may put the side that is kept whole a little outside
        left, top = max(0.0, (picture.width - across) / 2), max(0.0, (picture.height - down) / 2)
        picture = picture.resize(
            (width, height),
            Image.Resampling.BILINEAR,
            box=(left, top, min(picture.width, left + across), min(picture.height, top + down)),
        )
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
