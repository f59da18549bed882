"""Files written whole or not at all, in a local folder or an object store (s3://, gs://)."""

import errno
import io
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainables.base.errors import DataFileError, InputError
from trainables.base.permissions import make_folder, opener

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def atomic_write(path: Path, *, durable: bool = True, private: bool = False) -> Iterator[IO[bytes]]:
    """Yield an open file that replaces `path` when the block ends, and is deleted if the block raises.

    It is a temporary file in the same folder, flushed to the disk and renamed: a kill at any moment leaves the old
    file or the new one. Missing folders are made; nothing is more open than the folder it lies in.

    Args:
        durable: wait until the disk has it; without, a crash of the machine may lose the newest version.
        private: for this user alone, whatever the folder is.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=opener(path.parent, private=private)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file open for reading; a pipe, a device or a folder in its place is refused, never waited for.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it may not be read, or is no regular file.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(number).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        file = os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise
    with file:
        yield file


def read_file(path: Path) -> bytes:
    """Return a file's bytes; see `open_file` for what is refused."""
    with open_file(path) as file:
        return file.read()


def absolute_path(text: str) -> str:
    """Return a path as every process finds it, from whatever folder it was started; a URI or "" as it is."""
    return text if not text or "://" in text else os.path.abspath(os.path.expanduser(text))


class Folder:
    """Files below one root, written whole or not at all: see `atomic_write`.

    Object stores publish an object only when it is complete.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        self.is_local = "://" not in self.uri
        if not self.is_local:
            from pyarrow import fs

            try:
                self._fs, self._root = fs.FileSystem.from_uri(self.uri)
            except Exception as error:
                raise InputError(f"cannot open storage {self.uri}: {str(error).splitlines()[0]}") from error

    def path(self, name: str) -> Path:
        """Return the local path of a file."""
        if not self.is_local:
            raise InputError(f"{self.uri} is not a local folder")
        return Path(self.uri) / name

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write one file atomically; missing folders are made.

        Args:
            durable: as for `atomic_write`.
        """
        if not self.is_local:
            with self._fs.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(data)
            return
        with atomic_write(self.path(name), durable=durable) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it may not be read, or is no regular file.
        """
        if self.is_local:
            return read_file(self.path(name))
        with self._fs.open_input_stream(f"{self._root}/{name}") as stream:
            data: bytes = stream.read()
        return data

    def names(self, folder: str) -> list[str]:
        """Return the file names (not folders) directly in a sub-folder, sorted; empty if it is missing."""
        if self.is_local:
            base = self.path(folder)
            return sorted(p.name for p in base.iterdir() if p.is_file()) if base.is_dir() else []
        from pyarrow import fs

        where = f"{self._root}/{folder}".rstrip("/")
        found = self._fs.get_file_info(fs.FileSelector(where, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders directly in a sub-folder, sorted; empty if it is missing."""
        if self.is_local:
            base = self.path(folder)
            return sorted(p.name for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
        from pyarrow import fs

        where = f"{self._root}/{folder}".rstrip("/")
        found = self._fs.get_file_info(fs.FileSelector(where, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def walk(self, folder: str) -> list[str]:
        """Return the names, relative to the root, of all files anywhere below a sub-folder, sorted."""
        if self.is_local:
            found = [path for path in self.path(folder).rglob("*") if path.is_file()]
            return sorted(path.relative_to(self.uri).as_posix() for path in found)
        from pyarrow import fs

        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        infos = self._fs.get_file_info(selector)
        return sorted(
            info.path.removeprefix(f"{self._root}/") for info in infos if info.type == fs.FileType.File
        )

    def delete(self, name: str) -> None:
        """Delete a file; one that is already gone is fine."""
        if self.is_local:
            self.path(name).unlink(missing_ok=True)
            return
        try:
            self._fs.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return


def check_archive(file: IO[bytes] | str | Path) -> None:
    """Compare every entry of an archive (torch.save, numpy.savez) with its checksum.

    `torch.load` 2.15 reads the checksums and does not compare them: a flipped bit would be trained on.

    Raises:
        zipfile.BadZipFile: not an archive, or cut off.
        ValueError: an entry does not match its checksum.
    """
    with zipfile.ZipFile(file) as archive:
        part = archive.testzip()
    if part:
        raise ValueError(f"checksum of {part} is wrong")


def read_npz(data: bytes, name: str) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return the arrays of an npz file, every one checked against its checksum.

    Args:
        name: of the file, for the message.

    Raises:
        DataFileError: it cannot be read; whatever zipfile and numpy raise for a damaged one.
    """
    import numpy as np

    try:
        check_archive(io.BytesIO(data))
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataFileError(f"{name} is not a readable npz file: {reason}") from error


def is_full(error: BaseException | None) -> bool:
    """Return whether an exception, or one behind it, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
