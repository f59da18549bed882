"""A picture file as 8-bit grey or RGB, whatever its depth, transparency and rotation. Every reader uses it."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.base.errors import DataFileError

#: what Pillow may read a picture with, whatever its name says: it would hand PostScript to Ghostscript, which runs it
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
BACKGROUND = 255  #: the grey value behind transparent pixels: white
# Pillow warns of pictures with half as many pixels as it refuses: of the user's own these are photographs
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def read_picture(path: Path) -> Image.Image:
    """Return a picture in its own size as 8-bit grey (mode L) or RGB.

    - It is turned upright as its EXIF orientation says.
    - Of more than 8 bits a value the highest 8 are kept: 65535 becomes 255.
    - Transparent pixels show white behind them.
    - Palettes, CMYK and other colour spaces become RGB; of an animation the first frame counts.

    Raises:
        DataFileError: a missing or damaged file, one of over 178 million pixels, or pixels without a known range
            (floating point, 32-bit integers); one line that names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            opened.load()
            return eight_bit_picture(opened)
    except FileNotFoundError:
        if path.is_symlink():
            raise DataFileError(f"{path} is a link to {os.readlink(path)}, which is not there") from None
        raise DataFileError(f"{path} is missing; unpack the archive again") from None
    except UnidentifiedImageError:
        unknown = f"is a picture of no known format, or damaged (known: {', '.join(FORMATS)})"
        raise DataFileError(f"{path} {unknown if path.stat().st_size else 'is empty'}") from None
    except DataFileError as error:
        raise DataFileError(f"{path} {error}") from None
    except Image.DecompressionBombError:
        assert Image.MAX_IMAGE_PIXELS is not None
        most = 2 * Image.MAX_IMAGE_PIXELS // 1_000_000
        raise DataFileError(f"{path} has more than {most} million pixels; save it smaller") from None
    except (
        Exception
    ) as error:  # Pillow's decoders and conversions raise OSError, SyntaxError, ValueError and more
        if isinstance(error, OSError) and error.strerror:
            raise DataFileError(f"{path} cannot be read: {error.strerror}") from error
        raise DataFileError(f"{path} is not a whole picture: {_line(error)}") from error


def eight_bit_picture(picture: Image.Image) -> Image.Image:
    """Return an opened picture, which is turned upright itself, as `read_picture` does; errors have no name of a file.

    Raises:
        DataFileError: pixels without a known range.
    """
    ImageOps.exif_transpose(picture, in_place=True)  # a copy would have no tags, which tell the depth
    return _grey_or_rgb(picture)


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
