"""Read arrays of npz and npy files: headers alone, large ones mapped from disk or row by row. No torch."""

import hashlib
import math
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from trainables.base.cache import default_cache_dir, locked
from trainables.base.errors import DataFileError
from trainables.base.storage import atomic_write

Array = np.ndarray
Header = tuple[tuple[int, ...], np.dtype]

_BLOCK_BYTES = 2**24
_SMALL_BYTES = 2**26  #: compressed arrays up to this are read into memory, not unpacked into the cache


def npz_headers(path: Path) -> dict[str, Header]:
    """Return {array: (shape, dtype)} of an npz file, none of them read; pickled ones have a dtype of objects.

    Raises:
        DataFileError: it is no whole npz file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _whole_member(archive, info)
                for info in archive.infolist()
            }
    except Exception as error:  # zipfile, zlib and numpy's parser of headers raise many kinds
        raise DataFileError(f"{path} is not a whole npz file: {_line(error)}") from error


def npy_header(path: Path) -> Header:
    """Return (shape, dtype) of an npy file; DataFileError if it is none."""
    return _npy_start(path)[0]


def check_whole_npy(path: Path) -> None:
    """Raise DataFileError if an npy file is shorter than its header says."""
    header, start = _npy_start(path)
    size, wanted = path.stat().st_size, start + _bytes(header)
    if size < wanted:
        raise DataFileError(f"{path} is truncated: {size} bytes of {wanted}")


def array_of_file(path: Path, key: str = "", cache_dir: Path | None = None) -> Array:
    """Return an array of an npz file, or of an npy file where the key is "", read-only: mapped, or small in memory.

    Raises:
        DataFileError: as in `mapped_array`.
    """
    with _reading(path):
        if not key:
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, key)
            if member.compress_type != zipfile.ZIP_STORED and member.file_size <= _SMALL_BYTES:
                with archive.open(member) as file:
                    array: Array = np.lib.format.read_array(file, allow_pickle=False)
                array.flags.writeable = False
                return array
    return mapped_array(path, key, cache_dir)


def mapped_array(path: Path, key: str, cache_dir: Path | None = None) -> Array:
    """Return an array of an npz file as a read-only map of the disk, which processes of one machine share.

    An uncompressed member is mapped inside the file. A compressed one is unpacked once into
    `<cache_dir>/unpacked/` and mapped there, as large as the array; its checksum is verified then. Nothing is unpacked
    of an array whose header does not fit its length, and nothing stays of one that is refused.

    Raises:
        DataFileError: no such array, a damaged file, pickled objects; one line that names the file.
    """
    with _reading(path):
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, key)
            stored = member.compress_type == zipfile.ZIP_STORED
            with archive.open(member) as file:
                _header(file, key)
            _whole_member(archive, member)
        if stored:
            return _mapped(path, key, _data_offset(path, member))
        place = _unpacked(path, key, cache_dir or default_cache_dir())
        try:
            return _mapped(place, key, 0)
        except Exception:
            place.unlink(missing_ok=True)
            raise


def rows_of(path: Path, key: str, rows: Array) -> Array:
    """Return some rows of an array of an npz file, in the order asked for; the file is read once, block by block.

    Only the chosen rows are held in memory. The complete member is read, so that its checksum is verified.

    Args:
        rows: (m,) numbers of rows, each at most once.

    Raises:
        DataFileError: as in `mapped_array`.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        member = _member(archive, path, key)
        with archive.open(member) as file:
            shape, fortran, dtype = _header(file, key)
            if fortran and len(shape) > 1:
                raise ValueError(f"{key} is in Fortran order; save it in C order")
            chosen = np.empty((len(rows), *shape[1:]), dtype)
            by_place = np.argsort(rows)
            ordered = np.asarray(rows)[by_place]
            size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
            for start, block in _blocks(file, shape[0], size):
                low, high = np.searchsorted(ordered, (start, start + len(block) // max(size, 1)))
                whole = np.frombuffer(block, dtype).reshape(-1, *shape[1:])
                chosen[by_place[low:high]] = whole[ordered[low:high] - start]
            if file.read(1):
                raise ValueError(f"{key} is longer than its header says")
    return chosen


def _blocks(file: IO[bytes], count: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield (first row, bytes of whole rows) until `count` rows of `size` bytes are read."""
    step = max(1, _BLOCK_BYTES // max(1, size))
    for start in range(0, count, step):
        wanted = (min(count, start + step) - start) * size
        block = file.read(wanted)
        if len(block) < wanted:
            raise EOFError("it ends in the middle of an array")
        yield start, block


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what damaged archives raise into one line."""
    try:
        yield
    except DataFileError:
        raise
    except Exception as error:  # zipfile, zlib, struct and numpy's parser of headers raise many kinds
        raise DataFileError(f"{path} cannot be read: {_line(error)}") from error


def _member(archive: zipfile.ZipFile, path: Path, key: str) -> zipfile.ZipInfo:
    names = archive.namelist()
    if f"{key}.npy" not in names:
        held = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
        raise DataFileError(f"{path} has no array {key}; it holds {held}")
    return archive.getinfo(f"{key}.npy")


def _npy_start(path: Path) -> tuple[Header, int]:
    """Return the header of an npy file, and where its values begin."""
    try:
        with open(path, "rb") as file:
            shape, _, dtype = _raw_header(file)
            return (shape, dtype), file.tell()
    except Exception as error:  # numpy parses the header as Python, which may raise many kinds
        raise DataFileError(f"{path} is not a whole npy file: {_line(error)}") from error


def _whole_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    with archive.open(info) as file:
        shape, _, dtype = _raw_header(file)
        if not dtype.hasobject and info.file_size != file.tell() + _bytes((shape, dtype)):
            raise ValueError(f"{info.filename} has {info.file_size} bytes, its header says otherwise")
    return shape, dtype


def _bytes(header: Header) -> int:
    shape, dtype = header
    return math.prod(shape) * dtype.itemsize  # of Python's integers, which do not overflow


def _raw_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype] = read(file)
    return header


def _header(file: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    shape, fortran, dtype = _raw_header(file)
    if dtype.hasobject:
        raise ValueError(f"{key} holds pickled objects, which are never loaded")
    if not shape or min(shape) < 0:
        raise ValueError(f"{key} is no array of rows")
    return shape, fortran, dtype


def _data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin: its local header may have an extra field of another length."""
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + int(name_length) + int(extra_length)


def _mapped(path: Path, key: str, offset: int) -> Array:
    with open(path, "rb") as file:
        file.seek(offset)
        shape, fortran, dtype = _header(file, key)
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _unpacked(path: Path, key: str, cache_dir: Path) -> Path:
    """Return the npy file of a compressed member, unpacked by the first process that asks for it."""
    state = path.stat()
    content = f"{path.resolve()} {key} {state.st_size} {state.st_mtime_ns}"
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    place = cache_dir / "unpacked" / f"{path.stem}-{key}-{name}.npy"
    with locked(place.with_suffix(".lock")):
        if not place.is_file():
            with (
                zipfile.ZipFile(path) as archive,
                archive.open(f"{key}.npy") as source,
                atomic_write(place) as file,
            ):
                shutil.copyfileobj(source, file, _BLOCK_BYTES)
    return place


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
