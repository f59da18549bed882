"""A data set at a glance: a sheet of its images as the network sees them, and what they are as saved. No torch."""

import io
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.base.errors import DataFileError
from trainables.data.loading.from_files import Parts
from trainables.data.readers.array_pictures import ArrayPictures
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import FileSource, LazyImages
from trainables.data.types.read_picture import FORMATS
from trainables.data.types.splits import DatasetInfo, Split

Array = np.ndarray

COLUMNS = 8  #: images of a class or set on the sheet
MOST_CLASSES, MOST_SETS = 30, 12  #: rows of the sheet
TILE = 96  #: pixels a side of an image on the sheet
_LABEL, _GAP = 180, 4
_SAMPLE = 200  #: images whose size as saved is looked at
_OOD = (Split.VAL_OOD_NEAR, Split.VAL_OOD_FAR, Split.TEST_OOD_NEAR, Split.TEST_OOD_FAR, Split.TEST_OOD_OTHER)
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def as_saved(parts: Parts) -> dict[str, Any]:
    """Return what images to train on are before they are read, of a sample: their sizes and kinds.

    Returns:
        {"looked_at": number, "smallest", "largest": [width, height] by area, "shorter_side": the largest of the
        pictures' shorter sides, "kinds": {"RGB" or "uint8": number}}; {} where they cannot be read.
    """
    data = parts[Split.TRAIN]["id"]
    images: object = data.images
    if not isinstance(images, LazyImages):
        return {}
    rows = images.rows[np.unique(np.linspace(0, len(images.rows) - 1, _SAMPLE).astype(int))].tolist()
    sizes: list[tuple[int, int]] = []
    kinds: Counter[str] = Counter()
    source = images.source
    for row in rows:
        try:
            if isinstance(source, FileSource):
                with Image.open(source.path(row), formats=FORMATS) as opened:  # its header alone
                    size, kind = opened.size, opened.mode
            elif isinstance(source, ArrayPictures):
                size, kind = (source.shape[2], source.shape[1]), source.dtype.name
            else:
                picture = source.picture(row)
                size, kind = picture.size, picture.mode
        except (OSError, ValueError, Image.DecompressionBombError):  # told by the check
            continue
        sizes.append(size)
        kinds[kind] += 1
    if not sizes:
        return {}
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        "looked_at": len(sizes),
        "smallest": list(ordered[0]),
        "largest": list(ordered[-1]),
        "shorter_side": max(map(min, sizes)),
        "kinds": dict(kinds.most_common()),
    }


def contact_sheet(info: DatasetInfo, parts: Parts) -> bytes:
    """Return a PNG with a row of images for each class to train on and each OOD set, as the network will see them.

    Images that cannot be read are left out; classes and sets beyond a number of rows, too.
    """
    rows = [*islice(_classes(info, parts), MOST_CLASSES), *islice(_ood_sets(parts), MOST_SETS)]
    height, width = info.shape[1:]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new(
        "RGB", (_LABEL + COLUMNS * (TILE + _GAP) + _GAP, len(rows) * (TILE + _GAP) + _GAP), _PAPER
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for number, (title, images) in enumerate(rows):
        top = _GAP + number * (TILE + _GAP)
        for line, text in enumerate(_wrapped(title)):
            draw.text((_GAP, top + 14 * line), text, _INK, font)
        for column, image in enumerate(images):
            # small images are shown as the pixels that they are
            how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
            picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).resize(
                size, how
            )
            sheet.paste(picture.convert("RGB"), (_LABEL + column * (TILE + _GAP), top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _classes(info: DatasetInfo, parts: Parts) -> Iterator[tuple[str, list[Array]]]:
    train = parts[Split.TRAIN]["id"]
    for label, name in enumerate(info.class_names):
        places = np.flatnonzero(train.labels == label)
        yield f"{name} ({len(places)})", _some(train, places)


def _ood_sets(parts: Parts) -> Iterator[tuple[str, list[Array]]]:
    for split in _OOD:
        for name, data in parts.get(split, {}).items():
            kind = split.value.removeprefix("test_").replace("_", " ")
            yield f"{kind}: {name} ({len(data)})", _some(data, np.arange(len(data)))


def _some(data: LabelledImages, places: Array) -> list[Array]:
    """Return the first images that can be read, uint8 (c, h, w)."""
    found: list[Array] = []
    for place in places[: 2 * COLUMNS].tolist():
        try:
            image = np.asarray(data.images[place])
        except DataFileError:  # told by the check
            continue
        found.append(image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8))
        if len(found) == COLUMNS:
            break
    return found


def _wrapped(text: str, length: int = 28) -> list[str]:
    """Return a title in lines; characters that the font has not are shown as '?'."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return [plain[start : start + length] for start in range(0, len(plain), length)][: TILE // 14]
