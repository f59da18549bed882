"""Pictures on disk: which folders are classes, and which files are pictures.

Every reader of picture files uses these functions. Imports neither numpy nor PIL: a launch checks folders first.
"""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from trainables.base.errors import DataFileError

#: Endings of files that count as pictures.
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
#: What operating systems and storage devices leave beside a user's files, in lower case; hidden names are left out too.
_COMPANIONS = frozenset(
    {
        *("@eadir", "@recycle", "#recycle", "$recycle.bin", "__macosx", "__pycache__"),
        *("lost+found", "system volume information", "thumbs.db", "desktop.ini"),
    }
)


def is_companion(name: str) -> bool:
    """Whether a file or folder is hidden, or was put there by a system and not by the user."""
    return name.startswith(".") or name.lower() in _COMPANIONS


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in a folder, sorted: their order is the order of the labels.

    A link to the folder itself, above it or into another class folder is none.
    """
    root = os.path.realpath(folder)
    entries = [e for e in _entries(str(folder)) if e.is_dir()]
    return sorted(e.name for e in entries if not (e.is_symlink() and _inside_or_above(e.path, [root])))


def loose_pictures(folder: Path) -> list[str]:
    """Return the names of the pictures that lie in a folder itself, sorted."""
    return sorted(e.name for e in _entries(str(folder)) if e.is_file() and _is_picture(e.name))


def picture_files(folder: Path) -> list[str]:
    """Return the names of all pictures below a folder, relative to it, sorted.

    Links to other folders are followed, each folder once.
    """
    return sorted(_walk(folder, "", {os.path.realpath(folder)}, set()))


def pictures_by_class(folder: Path, inner: str = "") -> dict[str, list[str]]:
    """Return {class folder: names of the pictures below it, relative to `folder`}, both sorted.

    A picture counts once and under its own class, whatever links there are between the folders.

    Args:
        inner: a folder inside each class folder that holds the pictures, if it is there.
    """
    classes = class_folders(folder)
    tree = {os.path.realpath(folder), *(os.path.realpath(folder / name) for name in classes)}
    seen: set[str] = set()
    found = {}
    for name in classes:
        start = f"{name}/{inner}" if inner and (folder / name / inner).is_dir() else name
        found[name] = sorted(_walk(folder, start, tree, seen))
    return found


def other_files(folder: Path) -> Counter[str]:
    """Return {ending: how many} of the files below a folder that are no pictures, "" for none."""
    names = _walk(folder, "", {os.path.realpath(folder)}, set(), pictures=False)
    return Counter(os.path.splitext(name)[1].lower() for name in names)


def _walk(root: Path, start: str, tree: Collection[str], seen: set[str], pictures: bool = True) -> list[str]:
    """Return the pictures below `root / start`, relative to root, or all other files.

    Args:
        tree: real paths that are walked anyway: a link into one of them, or above, is not followed.
        seen: real paths of linked folders that were walked; this one adds its own.
    """
    names: list[str] = []
    waiting = [(start, os.path.realpath(root / start))]
    while waiting:
        inside, real = waiting.pop()
        for entry in _entries(str(root / inside)):
            name = f"{inside}/{entry.name}" if inside else entry.name
            if not entry.is_dir():
                if _is_picture(name) == pictures and (entry.is_file() or entry.is_symlink()):
                    names.append(
                        name
                    )  # a link to nothing is told when it is read; a pipe would be waited for
            elif not entry.is_symlink():
                waiting.append((name, f"{real}/{entry.name}"))
            elif not _inside_or_above(entry.path, [real, *tree]):
                target = os.path.realpath(entry.path)
                if target not in seen:
                    seen.add(target)
                    waiting.append((name, target))
    return names


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_companion(entry.name)]
    except OSError as error:
        raise DataFileError(f"{folder} cannot be listed: {error.strerror}") from error


def _inside_or_above(link: str, folders: Collection[str]) -> bool:
    """Whether a link leads to one of these folders (real paths), into it or above it."""
    target = os.path.realpath(link)
    return any(f"{f}/".startswith(f"{target}/") or f"{target}/".startswith(f"{f}/") for f in folders)
