"""Download a data set on its first use: once per node, complete or not at all, with its checksum verified.

python -m trainables.data.download dtd flowers102 --data-dir DIR
"""

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainables.base.arguments import Parser
from trainables.base.cache import locked
from trainables.base.errors import DataFileError, InputError
from trainables.data.types.dataset_spec import Download
from trainables.data.types.file_check import local_folder, missing_files
from trainables.data.types.ood_sets import downloadable, files_of


def fetch(download: Download, folder: str) -> None:
    """Download into a folder, with a progress bar; raises where the server or a checksum is wrong."""
    if download.url:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(download.url, folder, md5=download.md5, remove_finished=True)
        return
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, download.torchvision)
    for split in download.splits:
        dataset(folder, split=split, download=True)
    if not download.splits:
        dataset(folder, download=True)


def ensure(name: str, data_dir: str) -> None:
    """Download a data set if its files are not there; other processes of the node wait for the first.

    Everything is unpacked into a temporary folder and moved at the end, so that a killed download leaves no files that
    look complete.

    Raises:
        DataFileError: the source allows no download, cannot be reached, or sends something else; one line
            that says what to put where instead.
    """
    line = missing_files(name, local_folder(name, data_dir))
    if not line:
        return
    source = files_of(name).download
    if source is None:
        raise DataFileError(line)
    root = Path(data_dir).expanduser()
    partial_folder = root / f".downloading-{name}"
    try:
        with locked(root / f".{name}.lock"):
            if not missing_files(name, data_dir):
                return  # another process has fetched it meanwhile
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir()
            try:
                with _socket_timeout():
                    fetch(source, str(partial_folder))
                _move(partial_folder, root)
            finally:
                shutil.rmtree(partial_folder, ignore_errors=True)
    except Exception as error:  # network, disk and archive errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFileError(f"{line}; the download failed: {reason}") from error
    line = missing_files(name, data_dir)
    if line:
        raise DataFileError(f"{line}; the download did not bring it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the named sets and return the exit status."""
    parser = Parser(prog="python -m trainables.data.download", description="Fetch data sets.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(downloadable()))
    parser.add_argument("--data-dir", required=True, metavar="DIR")
    try:
        options = parser.parse_args(arguments)
        for name in options.names:
            ensure(name, options.data_dir)
            sys.stdout.write(f"{name} is in {options.data_dir}\n")
    except InputError as error:
        sys.stderr.write(f"trainables.data.download: {error}\n")
        return 2
    return 0


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Give up on a server that is silent for a minute; urllib has no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _move(source: Path, target: Path) -> None:
    """Move everything in source into target; folders that are there already are filled, not replaced."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            os.replace(entry, place)


if __name__ == "__main__":
    sys.exit(main())
