"""Check that the files of a data set are in the data folder, before anything starts. No torch.

Only presence is looked at, which takes milliseconds; content is checked when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.base.errors import DataFileError
from trainables.data.types.datasets import DATASETS
from trainables.data.types.ood_sets import files_of


@contextmanager
def access_told() -> Iterator[None]:
    """Turn what the system refuses (a folder of another user, a disk that fails) into a DataFileError of one line."""
    try:
        yield
    except OSError as error:
        raise DataFileError(
            f"{error.filename or 'a file'} cannot be read: {error.strerror or error}"
        ) from error


@access_told()
def find_folder(name: str, data_dir: str, part: str) -> Path | None:
    """Return the folder that holds everything a part needs, or None.

    Args:
        part: "train", "test", or "val" where the files may have one of their own; the OOD sets have "test" only.
    """
    files = files_of(name)
    marks = files.validation if part == "val" else files.parts[part]
    if part == "val" and not marks:
        return None
    for folder in files.folders:
        root = Path(data_dir).expanduser() / folder
        if root.is_dir() and not _lacking(root, marks):
            return root
    return None


@access_told()
def missing_files(name: str, data_dir: str) -> str:
    """Return what an ID set lacks and what to put where, in one line; "" if all is there."""
    files = files_of(name)
    roots = [Path(data_dir).expanduser() / folder for folder in files.folders]
    root = next((r for r in roots if r.is_dir() and r != Path(data_dir).expanduser()), roots[0])
    lacking = [
        mark
        for part, marks in files.parts.items()
        if find_folder(name, data_dir, part) is None
        for mark in (_lacking(root, marks) or marks or ("pictures",))
    ]
    if not lacking:
        return ""
    names = ", ".join(dict.fromkeys(mark.split("|")[0] for mark in lacking))
    return f"{name}: {names} not found in {root}; put {files.put} of {Path(data_dir).expanduser()}"


def check_dataset_files(name: str, data_dir: str) -> str:
    """Check that the files of a data set are there.

    Returns:
        "" if everything is there (or the set is built in), else a sentence saying that, and how much, will be
        downloaded.

    Raises:
        InputError: an unknown data set.
        DataFileError: files are missing and cannot be downloaded; one line that says what to put where.
    """
    if name in DATASETS and DATASETS[name].files is None:
        return ""
    download = files_of(name).download
    line = missing_files(name, local_folder(name, data_dir))
    if not line:
        return ""
    if not download:
        raise DataFileError(line)
    return f"{name} is not in {data_dir}; about {download.megabytes} MB are downloaded there"


def local_folder(name: str, data_dir: str) -> str:
    """Return the data folder, or raise DataFileError if it is none that files can be opened in."""
    if not data_dir:
        raise DataFileError(f"{name} needs a data folder; put {files_of(name).put} of it")
    if "://" in data_dir:
        raise DataFileError(
            f"{name}: data folder {data_dir} is not a local or mounted folder; copy or mount it"
        )
    return data_dir


def _lacking(root: Path, marks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(m for m in marks if not any((root / choice).exists() for choice in m.split("|")))
