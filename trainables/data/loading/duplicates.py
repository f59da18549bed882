"""The same image in two sets of one data set: exact copies by hash, re-encoded ones by a perceptual hash.

An image that is trained on and tested on makes the test worthless; one that is an outlier in training and an OOD test
image, too. What is compared is content, not names. Sets that are made of others (corrupted ones, validation OOD) are
left out.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import FileSource, LazyImages
from trainables.data.types.splits import Split

Array = np.ndarray
Sets = Mapping[str, LabelledImages]
Hashes = dict[str, list[bytes]]

EXAMPLES = 3
SMALLEST_SIDE = 16  #: below so many pixels a perceptual hash says too little
SAME_GREY = 3.0  #: mean absolute difference of 16 x 16 grey thumbnails, in steps of 255, up to which they are one image
_THUMB = 16
_CROWD = 64  #: images that share a quarter of their hash with more others are flat (a sky, a blank page): not compared
_BLOCK = 1024
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Overlap:
    """Images that stand in two sets.

    Attributes:
        first, second: "train", "test_ood_near/mine"; the one that is read earlier in a study comes first.
        count, of: how many images of the second set are in the first one, and how many it has.
        examples: "train 17 = test 3", or the files' names where they are files.
        exact: equal to the last bit; else alike, as after saving a picture once more.
    """

    first: str
    second: str
    count: int
    of: int
    examples: tuple[str, ...]
    exact: bool

    @property
    def is_leak(self) -> bool:
        """Whether exact copies spoil results on the second set: they are read before, or are ID and OOD at once."""
        first, second = (name.partition("/")[0] for name in (self.first, self.second))
        searched = second.startswith("val_") and first in ("train", "val_id") and first != second
        judged = second.startswith("test_") or searched
        return self.exact and judged and not first.startswith("test_ood")

    def __str__(self) -> str:
        how = "are in" if self.exact else "look like images of"
        first, second = in_words(self.first), in_words(self.second)
        return f"{self.count} of {self.of} images of {second} {how} {first} too ({', '.join(self.examples)})"


_WORDS = {
    Split.VAL_ID: "validation",
    Split.TEST_ID: "test",
    Split.VAL_OOD_NEAR: "near validation OOD",
    Split.VAL_OOD_FAR: "far validation OOD",
    Split.TEST_OOD_NEAR: "near OOD",
    Split.TEST_OOD_FAR: "far OOD",
    Split.TEST_OOD_OTHER: "other OOD",
}


def in_words(name: str) -> str:
    """Return a set's name as messages have it: "test", "near OOD mine"."""
    split, _, of = name.partition("/")
    return f"{next((word for known, word in _WORDS.items() if known.value == split), split)} {of}".rstrip()


#: Splits that are made of others; of files and arrays, before they are made, validation OOD is the user's own.
CORRUPTED = (Split.CORRUPTED, Split.VAL_CORRUPTED)
MADE = (*CORRUPTED, Split.VAL_OOD_NEAR, Split.VAL_OOD_FAR)


def sets_of(parts: Mapping[Split, Sets], made: Sequence[Split] = MADE) -> dict[str, LabelledImages]:
    """Return {"train": images, "test_ood_near/mine": images, ...} of every split that is not made of others.

    Sealed splits count too: only names and counts leave this module.
    """
    return {
        split.value if name == "id" else f"{split.value}/{name}": data
        for split in Split
        if split not in made
        for name, data in parts.get(split, {}).items()
    }


def overlaps(
    sets: Sets, alike: bool = True, files: Sets | None = None, hashes: Hashes | None = None
) -> list[Overlap]:
    """Return which images stand in more than one set, exact copies first, then those that only look the same.

    Args:
        sets: see `sets_of`; in the order of their use.
        alike: look for re-encoded copies too; decodes every image once.
        files: the sets as they were before their images were decoded, by whose files examples are named.
        hashes: what `exact_hashes` returned for the sets, where it is known.
    """
    named = {**sets, **(files or {})}
    pairs = list(combinations(sets, 2))
    hashes = exact_hashes(sets) if hashes is None else hashes
    found = [o for a, b in pairs if (o := _overlap(a, b, hashes[a], hashes[b], named)) is not None]
    if alike:
        thumbs = {name: thumbnails(data.images) for name, data in sets.items() if _is_large(data)}
        for a, b in pairs:
            if a in thumbs and b in thumbs:
                same = _alike(thumbs[a], thumbs[b], set(_matches(hashes[a], hashes[b])))
                if same:
                    examples = _examples(a, b, named, same)
                    found.append(Overlap(a, b, len(same), len(sets[b]), examples, False))
    return found


# -- exact copies ------------------------------------------------------------------------------------------


def exact_hashes(sets: Sets) -> Hashes:
    """Return {set: bytes for each image that are equal for equal images alone}.

    Pictures that are files still are compared by the files' bytes, and of those no more is read than tells them apart;
    others by their pixels. The two kinds are never equal.
    """
    files = {name: paths for name, data in sets.items() if (paths := _paths(data.images)) is not None}
    hashes = {name: [_size(path) for path in paths] for name, paths in files.items()}
    for read in (_head, _whole):
        counts = Counter(key for keys in hashes.values() for key in keys)
        hashes = {
            name: [
                key + read(path) if counts[key] > 1 else key
                for key, path in zip(keys, files[name], strict=True)
            ]
            for name, keys in hashes.items()
        }
    return {
        name: hashes[name] if name in hashes else [_digest(image) for image in _images(data.images)]
        for name, data in sets.items()
    }


def _paths(images: object) -> list[Path] | None:
    """Return the files of pictures that are not decoded yet, else None."""
    if not isinstance(images, LazyImages) or not isinstance(images.source, FileSource):
        return None
    return [images.source.path(int(row)) for row in images.rows]


def _size(path: Path) -> bytes:
    try:
        return b"%d " % path.stat().st_size
    except OSError:
        return os.fsencode(path)  # equal to no other's; that it cannot be read is told by who reads it


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(_HEAD_BYTES)).digest()
    except OSError:
        return os.fsencode(path)


def _whole(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return os.fsencode(path)


def _images(images: Array | LazyImages) -> Iterator[Array]:
    for start in range(0, len(images), _BLOCK):
        yield from np.asarray(images[start : start + _BLOCK])


def _as_bytes(image: Array) -> Array:
    """Return an image in 0..255 as uint8, whether it came so or as numbers in [0, 1]."""
    return image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)


def _digest(image: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(_as_bytes(image)).tobytes()).digest()


def _matches(first: Sequence[bytes], second: Sequence[bytes]) -> dict[int, int]:
    """Return {place in the second: a place in the first}."""
    places = {value: place for place, value in reversed(list(enumerate(first)))}
    return {place: places[value] for place, value in enumerate(second) if value in places}


def _overlap(a: str, b: str, first: Sequence[bytes], second: Sequence[bytes], named: Sets) -> Overlap | None:
    same = _matches(first, second)
    return Overlap(a, b, len(same), len(second), _examples(a, b, named, same), True) if same else None


def repeats(sets: Sets, hashes: Hashes) -> list[str]:
    """Return a line for each set that holds an image more than once, the first ones named.

    Args:
        hashes: of the sets, see `exact_hashes`.
    """
    lines = []
    for name, data in sets.items():
        places: dict[bytes, int] = {}
        again, torn = [], []
        for place, key in enumerate(hashes[name]):
            first = places.setdefault(key, place)
            if first != place:
                again.append((first, place))
                if data.labels[first] != data.labels[place]:
                    torn.append((first, place))
        what = "are copies of others in it"
        for found, where in ((again, ""), (torn, ", of another class")):
            if found:
                examples = ", ".join(
                    f"{_name(name, data, left)} = {_name(name, data, right)}"
                    for left, right in found[:EXAMPLES]
                )
                lines.append(
                    f"{len(found)} of {len(data)} images of {in_words(name)} {what}{where} ({examples})"
                )
    return lines


def _examples(a: str, b: str, named: Sets, same: Mapping[int, int]) -> tuple[str, ...]:
    pairs = list(same.items())[:EXAMPLES]
    return tuple(f"{_name(a, named[a], left)} = {_name(b, named[b], right)}" for right, left in pairs)


def _name(name: str, data: LabelledImages, place: int) -> str:
    paths = _paths(data.images[place : place + 1])
    return str(paths[0]) if paths else f"{in_words(name)} {place}"


# -- copies that were saved again --------------------------------------------------------------------------


def _is_large(data: LabelledImages) -> bool:
    return min(data.images.shape[2:]) >= SMALLEST_SIDE


def thumbnails(images: Array | LazyImages) -> Array:
    """Return (n, 16, 16) uint8 grey thumbnails of (n, c, h, w) images."""
    small = np.empty((len(images), _THUMB, _THUMB), np.uint8)
    for place, image in enumerate(_images(images)):
        pixels = _as_bytes(image)
        grey = (
            pixels[0]
            if len(pixels) == 1
            else np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))
        )
        small[place] = np.asarray(Image.fromarray(grey).resize((_THUMB, _THUMB), Image.Resampling.BOX))
    return small


def difference_hashes(thumbs: Array) -> Array:
    """Return (n, 4) uint16: 64 bits an image, whether each cell of an 8 x 8 grid is brighter than the one to its left.

    Source:
        "dHash", N. Krawetz 2013; here on the even rows and columns of a 16 x 16 thumbnail.
    """
    cells = thumbs[:, ::2, :].astype(np.int16)
    left, right = cells[:, :, 0:16:2], cells[:, :, 1:16:2]
    bits = np.packbits(right > left, axis=2).reshape(len(thumbs), 8)
    return bits.view(np.uint16).reshape(len(thumbs), 4)


def _alike(first: Array, second: Array, exact: set[int]) -> dict[int, int]:
    """Return {place in the second: place in the first} of thumbnails that are one image; `exact` are left out."""
    a, b = difference_hashes(first), difference_hashes(second)
    same: dict[int, int] = {}
    for band in range(4):  # two hashes that differ in three bits at most agree in one of four bands
        order = np.argsort(a[:, band], kind="stable")
        keys = a[order, band]
        low, high = np.searchsorted(keys, b[:, band]), np.searchsorted(keys, b[:, band], "right")
        for place in np.flatnonzero((high > low) & (high - low <= _CROWD)).tolist():
            if place in same or place in exact:
                continue
            candidates = order[low[place] : high[place]]
            off = np.abs(first[candidates].astype(np.int16) - second[place]).mean(axis=(1, 2))
            if (
                off.min() <= SAME_GREY and second[place].std() > SAME_GREY
            ):  # of flat images nothing can be told
                same[place] = int(candidates[off.argmin()])
    return same
