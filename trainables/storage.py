"""A folder that may be local or an object store (s3://, gs://): whole files in, whole files out."""

import os
from pathlib import Path

from trainables.errors import InputError


class Folder:
    """Files below one root, written whole or not at all.

    A local write goes to a temporary name, is flushed to the disk and renamed, so that a kill at any moment
    leaves the old file or the new one; object stores publish an object only when it is complete.
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

    def write(self, name: str, data: bytes) -> None:
        """Write one file atomically; missing folders are made."""
        if not self.is_local:
            with self._fs.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(data)
            return
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: it is not there.
        """
        if self.is_local:
            return self.path(name).read_bytes()
        with self._fs.open_input_stream(f"{self._root}/{name}") as stream:
            data: bytes = stream.read()
        return data

    def names(self, folder: str) -> list[str]:
        """Return the file names (not folders) directly in a sub-folder, sorted; empty if it is missing."""
        if self.is_local:
            base = self.path(folder)
            return sorted(p.name for p in base.iterdir() if p.is_file()) if base.is_dir() else []
        from pyarrow import fs

        found = self._fs.get_file_info(fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def delete(self, name: str) -> None:
        """Delete a file; one that is already gone is fine."""
        if self.is_local:
            self.path(name).unlink(missing_ok=True)
            return
        try:
            self._fs.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
