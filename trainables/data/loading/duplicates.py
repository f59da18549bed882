"""The same image in two sets of one data set: exact copies by hash, re-encoded ones by a perceptual hash.

An image that is trained on and tested on makes the test worthless; one that is an outlier in training and an OOD test
image, too. What is compared is content, not names. Corrupted sets are left out: they are made of test images.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.lazy_images import FileSource, LazyImages
from trainables.data.types.splits import Split

Array = np.ndarray
Sets = Mapping[str, LabelledImages]

EXAMPLES = 3
SMALLEST_SIDE = 16  #: below so many pixels a perceptual hash says too little
SAME_GREY = 3.0  #: mean absolute difference of 16 x 16 grey thumbnails, in steps of 255, up to which they are one image
_THUMB = 16
_CROWD = 64  #: images that share a quarter of their hash with more others are flat (a sky, a blank page): not compared
_BLOCK = 1024


@dataclass(frozen=True)
class Overlap:
    """Images that stand in two sets.

    Attributes:
        first, second: "train", "test_ood_near/mine"; the one that is read earlier in a study comes first.
        count, of: how many images of the second set are in the first one, and how many it has.
        examples: "train 17 = test_id 3", or the files' names where they are files.
        exact: equal to the last bit; else alike, as after saving a picture once more.
    """

    first: str
    second: str
    count: int
    of: int
    examples: tuple[str, ...]
    exact: bool

    def __str__(self) -> str:
        how = "stand in" if self.exact else "look like images of"
        return f"{self.count} of {self.of} images of {self.second} {how} {self.first} too ({', '.join(self.examples)})"


def sets_of(benchmark: Benchmark) -> dict[str, LabelledImages]:
    """Return {"train": images, "test_ood_near/mine": images, ...} of every loaded split but the corrupted ones.

    Sealed splits count too: only names and counts leave this module.
    """
    skipped = (Split.CORRUPTED, Split.VAL_CORRUPTED)
    return {
        split.value if name == "id" else f"{split.value}/{name}": data
        for split in Split
        if split not in skipped
        for name, data in benchmark.parts.get(split, {}).items()
    }


def overlaps(sets: Sets, alike: bool = True) -> list[Overlap]:
    """Return which images stand in more than one set, exact copies first, then those that only look the same.

    Validation OOD sets are made of validation images and not compared with them.

    Args:
        sets: see `sets_of`; in the order of their use.
        alike: look for re-encoded copies too; decodes every image once.
    """
    pairs = [(a, b) for a, b in combinations(sets, 2) if not (a.startswith("val_") and b.startswith("val_"))]
    hashes = _exact_hashes(sets)
    found = [o for a, b in pairs if (o := _overlap(a, b, hashes[a], hashes[b], sets)) is not None]
    if alike:
        thumbs = {name: thumbnails(data.images) for name, data in sets.items() if _is_large(data)}
        for a, b in pairs:
            if a in thumbs and b in thumbs:
                same = _alike(thumbs[a], thumbs[b], set(_matches(hashes[a], hashes[b])))
                if same:
                    examples = _examples(a, b, sets, same)
                    found.append(Overlap(a, b, len(same), len(sets[b]), examples, False))
    return found


# -- exact copies ------------------------------------------------------------------------------------------


def _exact_hashes(sets: Sets) -> dict[str, list[bytes]]:
    """Return {set: a hash for each image}; of pictures that stay files, of files whose size occurs twice alone."""
    files = {name: data.images for name, data in sets.items() if _files(data.images) is not None}
    if len(files) < len(sets):  # arrays and files meet as pixels
        return {name: [_digest(image) for image in _images(data.images)] for name, data in sets.items()}
    sizes = {name: _sizes(images) for name, images in files.items()}  # type: ignore[arg-type]
    every = np.concatenate(list(sizes.values())) if sizes else np.zeros(0, np.int64)
    values, counts = np.unique(every, return_counts=True)
    twice = set(values[counts > 1].tolist())
    return {
        name: [
            _file_digest(images, place) if size in twice else b"%d" % size
            for place, size in enumerate(sizes[name].tolist())
        ]
        for name, images in files.items()
    }


def _files(images: object) -> FileSource | None:
    return images.source if isinstance(images, LazyImages) and isinstance(images.source, FileSource) else None


def _sizes(images: LazyImages) -> Array:
    source = _files(images)
    assert source is not None
    return np.array([source.path(int(row)).stat().st_size for row in images.rows], dtype=np.int64)


def _file_digest(images: object, place: int) -> bytes:
    source = _files(images)
    assert source is not None
    assert isinstance(images, LazyImages)
    with source.path(int(images.rows[place])).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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


def _overlap(a: str, b: str, first: Sequence[bytes], second: Sequence[bytes], sets: Sets) -> Overlap | None:
    same = _matches(first, second)
    return Overlap(a, b, len(same), len(second), _examples(a, b, sets, same), True) if same else None


def _examples(a: str, b: str, sets: Sets, same: Mapping[int, int]) -> tuple[str, ...]:
    pairs = list(same.items())[:EXAMPLES]
    return tuple(f"{_name(a, sets[a], left)} = {_name(b, sets[b], right)}" for right, left in pairs)


def _name(name: str, data: LabelledImages, place: int) -> str:
    source = _files(data.images)
    if source is None:
        return f"{name} {place}"
    assert isinstance(data.images, LazyImages)
    return str(source.path(int(data.images.rows[place])))


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
