"""Readers of files of training outliers (`outliers.path`), which are checked by their headers alone. No torch."""

from pathlib import Path
from typing import Protocol

import numpy as np

from trainables.base.errors import DataFileError, InputError
from trainables.data.readers.npz_arrays import (
    Header,
    check_whole_npy,
    mapped_array,
    npy_header,
    npz_headers,
    rows_of,
)
from trainables.options.common import OutlierOptions

Array = np.ndarray


class OutlierFile(Protocol):
    """A format of `outliers.path`: finds the file, checks it by its header, reads chosen images."""

    def find(self, options: OutlierOptions) -> Path:
        """Return the file that `options.path`, which is not empty, stands for; DataFileError if there is none."""

    def check(self, path: Path, shape: tuple[int, int, int]) -> int:
        """Return how many images of (c, h, w) the file holds; DataFileError if it is broken or does not fit."""

    def all(self, path: Path) -> Array:
        """Return every image of a checked file, (n, c, h, w) uint8; it may be mapped from disk."""

    def read(self, path: Path, rows: Array) -> Array:
        """Return (m, c, h, w) uint8, the images with the numbers `rows` (m,), each at most once, of a checked file."""


def check_outlier_files(options: OutlierOptions, shape: tuple[int, int, int]) -> None:
    """Check that the file behind the options exists, is complete and fits the task; other sources need none.

    Args:
        shape: (channels, height, width) of the task's images.

    Raises:
        InputError: an unknown source, or `outliers.path` is needed and empty.
        DataFileError: a missing file, wrong key, dtype or shape, a truncated or pickled file; one line.
    """
    if options.source.file:
        checked_file(options, shape)


def checked_file(options: OutlierOptions, shape: tuple[int, int, int]) -> tuple[Path, int]:
    """Return the file of a source of files and its number of images; errors as in `check_outlier_files`."""
    if not options.path:
        raise InputError(f"outliers.path is empty; it must name {options.source.path}")
    file: OutlierFile = options.source.load_file()
    path = file.find(options)
    return path, file.check(path, shape)


class NpzFile:
    """An npz file with x, uint8 (n, c, h, w): one for every sigma, or a folder of samples-<sigma>.npz."""

    def find(self, options: OutlierOptions) -> Path:
        return find_npz(options.path, options.sigma)

    def check(self, path: Path, shape: tuple[int, int, int]) -> int:
        return check_npz(path, shape)

    def all(self, path: Path) -> Array:
        return mapped_array(path, "x")

    def read(self, path: Path, rows: Array) -> Array:
        return rows_of(path, "x", rows)


class NpyFile:
    """An npy file of images, uint8 (n, h, w, c); sigma plays no part."""

    def find(self, options: OutlierOptions) -> Path:
        return Path(options.path).expanduser()

    def check(self, path: Path, shape: tuple[int, int, int]) -> int:
        return check_npy(path, shape)

    def all(self, path: Path) -> Array:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped.transpose(0, 3, 1, 2)

    def read(self, path: Path, rows: Array) -> Array:
        """Return the images in the order of the file, which a disk reads fastest."""
        return np.ascontiguousarray(self.all(path)[np.sort(rows)])


def find_npz(path: str, sigma: float) -> Path:
    """Return the file itself, or `samples-<sigma>.npz` of a folder, sigma printed with one decimal.

    A sigma that one decimal cannot hold is refused: 1.25 would silently become the file of 1.2.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataFileError(f"outliers.path {root} does not exist")
    file = root / f"samples-{sigma:.1f}.npz"
    if abs(float(f"{sigma:.1f}") - sigma) < 1e-9 and file.is_file():
        return file
    known = sorted(root.glob("samples-*.npz"), key=_sigma_of)
    names = ", ".join(p.stem.removeprefix("samples-") for p in known)
    hint = f"available sigmas: {names}" if names else "it holds no samples-<sigma>.npz"
    raise DataFileError(f"{root} has no file for sigma {sigma:g}; {hint}")


def check_npz(path: Path, shape: tuple[int, int, int]) -> int:
    """Check the arrays x, uint8 (n, c, h, w), and, if there, y, integers (n,); return n."""
    headers = npz_headers(path)
    if "x" not in headers:
        names = ", ".join(headers) or "nothing"
        raise DataFileError(f"{path} needs an array x (uint8, n x c x h x w); it holds {names}")
    n = _check_images(path, "x", headers["x"], shape, "c x h x w")
    if "y" in headers:
        y_shape, y_dtype = headers["y"]
        if y_dtype.kind not in "iu" or y_shape != (n,):
            raise DataFileError(f"{path}: y is {y_dtype} {y_shape}; want integers ({n},), one for each image")
    return n


def check_npy(path: Path, shape: tuple[int, int, int]) -> int:
    """Check an npy file of images, uint8 (n, h, w, c); return n."""
    header = npy_header(path)
    channels, height, width = shape
    n = _check_images(path, "the array", header, (height, width, channels), "h x w x c")
    check_whole_npy(path)
    return n


def _check_images(path: Path, name: str, header: Header, shape: tuple[int, ...], layout: str) -> int:
    size, dtype = header
    if dtype.hasobject:
        raise DataFileError(f"{path}: {name} holds pickled objects, which are never loaded; want uint8")
    if dtype != np.uint8:
        raise DataFileError(f"{path}: {name} is {dtype}; want uint8 in 0..255")
    if len(size) != 4 or size[0] < 1 or size[1:] != shape:
        want = " x ".join(str(s) for s in shape)
        have = " x ".join(str(s) for s in size)
        raise DataFileError(f"{path}: {name} is {have}; this task's images need n x {want} (n x {layout})")
    return size[0]


def _sigma_of(path: Path) -> tuple[float, str]:
    try:
        return float(path.stem.removeprefix("samples-")), path.name
    except ValueError:
        return float("inf"), path.name
