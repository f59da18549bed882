"""Pictures on disk: which folders are classes, which files are pictures, and how a file becomes 8-bit grey or RGB.

Every reader of picture files uses these functions. No torch.
"""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

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
BACKGROUND = 255  #: the grey value behind transparent pixels: white
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

# -- which files -------------------------------------------------------------------------------------------


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
    return sorted(e.name for e in _entries(str(folder)) if not e.is_dir() and _is_picture(e.name))


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


def _walk(root: Path, start: str, tree: Collection[str], seen: set[str]) -> list[str]:
    """Return the pictures below `root / start`, relative to root.

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
                if _is_picture(name):
                    names.append(name)
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


# -- what a file holds -------------------------------------------------------------------------------------


def read_picture(path: Path) -> Image.Image:
    """Return a picture in its own size as 8-bit grey (mode L) or RGB.

    - It is turned upright as its EXIF orientation says.
    - Of more than 8 bits a value the highest 8 are kept: 65535 becomes 255.
    - Transparent pixels show white behind them.
    - Palettes, CMYK and other colour spaces become RGB; of an animation the first frame counts.

    Raises:
        DataFileError: a missing or damaged file, or pixels without a known range (floating point, 32-bit integers);
            one line that names the file.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            return _grey_or_rgb(opened)
    except FileNotFoundError:
        raise DataFileError(f"{path} is missing; unpack the archive again") from None
    except DataFileError as error:
        raise DataFileError(f"{path} {error}") from None
    except (
        Exception
    ) as error:  # Pillow's decoders and conversions raise OSError, SyntaxError, ValueError and more
        raise DataFileError(f"{path} is not a whole picture: {_line(error)}") from error


def _grey_or_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode[0] in "IF":
        return _from_high_depth(picture)
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        behind = Image.new("RGBA", layers.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        shown = Image.alpha_composite(behind, layers)
        return shown.convert("L" if picture.mode in ("1", "L", "LA", "La") else "RGB")
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _from_high_depth(picture: Image.Image) -> Image.Image:
    """Return the highest 8 bits of grey values; Pillow itself does so for 16-bit colours."""
    tags = getattr(picture, "tag_v2", {})
    bits = max(tags.get(_TIFF_BITS, (16,)))
    if bits > 16 or picture.mode == "F":
        raise DataFileError(
            f"has pixels of mode {picture.mode} ({bits} bits), whose range is not known; save it with 8 or 16 bits"
        )
    if "transparency" in picture.info:
        raise DataFileError("has more than 8 bits and a transparent value; save it with 8 bits")
    values = np.asarray(picture).astype(np.uint32)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 2**bits - 1 - values
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
