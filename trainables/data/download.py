"""Fetch a data set on its first use: once per node, whole or not at all, checksum verified by torchvision.

python -m trainables.data.download dtd flowers102 --data-dir DIR
"""

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from trainables.base.cache import locked
from trainables.base.errors import DataFileError, InputError, unknown
from trainables.data.types.locations import LOCATIONS, local, missing

_ODIN = "https://www.dropbox.com/s/raw"


def _torchvision(name: str, root: str, **options: Any) -> None:
    import torchvision.datasets

    getattr(torchvision.datasets, name)(root, download=True, **options)


def _svhn(root: str) -> None:
    for split in ("train", "test"):
        _torchvision("SVHN", root, split=split)


def _archive(url: str, md5: str, root: str) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(url, root, md5=md5, remove_finished=True)


#: {name: function of the folder to fill}; each shows a progress bar and raises where a checksum is wrong.
SOURCES: dict[str, Callable[[str], None]] = {
    "cifar10": partial(_torchvision, "CIFAR10"),
    "cifar100": partial(_torchvision, "CIFAR100"),
    "mnist": partial(_torchvision, "MNIST"),
    "fashion-mnist": partial(_torchvision, "FashionMNIST"),
    "svhn": _svhn,
    "food101": partial(_torchvision, "Food101"),
    "dtd": partial(_torchvision, "DTD"),
    "flowers102": partial(_torchvision, "Flowers102"),
    "oxford-pet": partial(_torchvision, "OxfordIIITPet"),
    "eurosat": partial(_torchvision, "EuroSAT"),
    "tiny-imagenet": partial(
        _archive, "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
    ),
    "tiny-imagenet-crop": partial(
        _archive, f"{_ODIN}/avgm2u562itwpkl/Imagenet.tar.gz", "7c0827e4246c3718a5ee076e999e52e5"
    ),
    "tiny-imagenet-resize": partial(
        _archive, f"{_ODIN}/kp3my3412u5k9rl/Imagenet_resize.tar.gz", "0f9ff11d45babf2eff5fe12281d1ac31"
    ),
    "lsun-crop": partial(
        _archive, f"{_ODIN}/fhtsw1m3qxlwj6h/LSUN.tar.gz", "458a0a0ab8e5f1cb4516d7400568e460"
    ),
    "lsun-resize": partial(
        _archive, f"{_ODIN}/moqh2wh8696c3yl/LSUN_resize.tar.gz", "278b7b31c8cb7e804a1465a8ce03a2dc"
    ),
    "fooling": partial(
        _archive, "https://s.anhnguyen.me/10_runs_x_1000_cppns.tar.gz", "0910d63973b1512770f37bebdbb53e37"
    ),
}


def ensure(name: str, data_dir: str) -> None:
    """Fetch a data set if its files are not there; processes of one node that want it wait for the first.

    Everything is unpacked beside its place and moved there at the end, so that a download that was killed
    leaves nothing behind that looks whole.

    Raises:
        DataFileError: the source allows no download, cannot be reached, or sends something else; one line
            that says what to put where instead.
    """
    line = missing(name, local(name, data_dir))
    if not line:
        return
    if name not in SOURCES:
        raise DataFileError(line)
    root = Path(data_dir).expanduser()
    partial_folder = root / f".downloading-{name}"
    try:
        with locked(root / f".{name}.lock"):
            if not missing(name, data_dir):
                return  # another process has fetched it meanwhile
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir()
            try:
                with _impatient():
                    SOURCES[name](str(partial_folder))
                _move(partial_folder, root)
            finally:
                shutil.rmtree(partial_folder, ignore_errors=True)
    except Exception as error:  # network, disk and archive errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFileError(f"{line}; the download failed: {reason}") from error
    line = missing(name, data_dir)
    if line:
        raise DataFileError(f"{line}; the download did not bring it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the named sets and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.data.download", description="Fetch data sets."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--data-dir", required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            if name not in LOCATIONS:
                raise InputError(unknown("dataset", name, LOCATIONS))
            ensure(name, options.data_dir)
            sys.stdout.write(f"{name} is in {options.data_dir}\n")
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a server that is silent for a minute; urllib would wait for ever."""
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
