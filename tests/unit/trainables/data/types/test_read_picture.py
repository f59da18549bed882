"""What the pixels of a picture become: by hand for every mode that Pillow opens."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.base.errors import DataFileError
from trainables.data.types.picture_files import SUFFIXES
from trainables.data.types.read_picture import read_picture

WIDE = np.array([[0, 255, 256, 32767, 32768, 65535]], np.uint16)
HIGH_BYTES = [0, 0, 1, 127, 128, 255]


def values(path: Path) -> list:
    picture = read_picture(path)
    assert picture.mode in ("L", "RGB")
    return np.asarray(picture)[0].tolist()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_keeps_the_highest_8_bits(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 6 1 65535\n" + WIDE.astype(">u2").tobytes())
    else:
        Image.fromarray(WIDE).save(path)
    assert values(path) == HIGH_BYTES


def tiff(path: Path, bits: int, photometric: int, samples: int, data: bytes, width: int) -> None:
    """Write an uncompressed TIFF of one row, little-endian, as Pillow cannot write these depths."""
    tags = [
        (256, 3, 1, width), (257, 3, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
        (273, 4, 1, 0), (277, 3, 1, samples), (278, 3, 1, 1), (279, 4, 1, len(data)),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    extra = b""
    if samples > 1:
        tags[2] = (258, 3, samples, start)
        extra = bits.to_bytes(2, "little") * samples
    tags[5] = (273, 4, 1, start + len(extra))
    entries = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in tags
    )  # fmt: skip
    path.write_bytes(
        b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + b"\0\0\0\0" + extra + data
    )


def test_16_bit_colours_keep_the_highest_8_bits(tmp_path: Path) -> None:
    row = np.stack([WIDE[0], WIDE[0][::-1], WIDE[0]], axis=-1)
    tiff(tmp_path / "x.tif", 16, 2, 3, row.astype("<u2").tobytes(), 6)
    (tmp_path / "x.ppm").write_bytes(b"P6 6 1 65535\n" + (row[:, :] // 257 * 257).astype(">u2").tobytes())
    png16(tmp_path / "x.png", row)
    expected = [[a, b, a] for a, b in zip(HIGH_BYTES, HIGH_BYTES[::-1], strict=True)]
    assert values(tmp_path / "x.tif") == values(tmp_path / "x.png") == expected
    assert values(tmp_path / "x.ppm")[-1] == [255, 0, 255]


def png16(path: Path, row: np.ndarray) -> None:
    """Write a PNG of one row of 16-bit RGB, as Pillow cannot."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(row), 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + row.astype(">u2").tobytes())
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_12_bits_are_scaled_by_their_own_depth(tmp_path: Path) -> None:
    """4095 is white; two values of 12 bits in three bytes: fff 800, 010 000."""
    tiff(tmp_path / "x.tif", 12, 1, 1, bytes([0xFF, 0xF8, 0x00, 0x01, 0x00, 0x00]), 4)
    assert values(tmp_path / "x.tif") == [255, 128, 1, 0]


def test_16_bits_whose_white_is_zero_are_turned_round(tmp_path: Path) -> None:
    tiff(tmp_path / "x.tif", 16, 0, 1, WIDE.astype("<u2").tobytes(), 6)
    assert values(tmp_path / "x.tif") == [255, 255, 254, 128, 127, 0]


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_pixels_without_a_known_range_are_refused_by_name(dtype: type, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.full((2, 2), 1, dtype)).save(path)
    with pytest.raises(DataFileError) as caught:
        read_picture(path)
    assert str(caught.value) == (
        f"{path} has pixels of mode {mode} (32 bits), whose range is not known; save it with 8 or 16 bits"
    )


RED, GREEN = (255, 0, 0), (0, 255, 0)
#: mode: (pixels, what is read)
MODES: dict[str, tuple[Callable[[], Image.Image], list]] = {
    "1": (lambda: Image.fromarray(np.array([[True, False]])), [255, 0]),
    "L": (lambda: Image.fromarray(np.array([[7, 200]], np.uint8)), [7, 200]),
    "RGB": (lambda: Image.fromarray(np.array([[RED, GREEN]], np.uint8)), [list(RED), list(GREEN)]),
    # 64 of 255 opaque black over white: 255 - 64
    "LA": (lambda: Image.fromarray(np.array([[(0, 64), (9, 255)]], np.uint8), "LA"), [191, 9]),
    "RGBA": (
        lambda: Image.fromarray(np.array([[(*RED, 0), (*GREEN, 255), (*RED, 51)]], np.uint8)),
        [[255, 255, 255], list(GREEN), [255, 204, 204]],
    ),
    "P": (lambda: palette(None), [list(RED), list(GREEN)]),
    "P, transparent": (lambda: palette(0), [[255, 255, 255], list(GREEN)]),
}


def palette(transparent: int | None) -> Image.Image:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([*RED, *GREEN])
    if transparent is not None:
        picture.info["transparency"] = transparent
    return picture


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_by_hand(mode: str, tmp_path: Path) -> None:
    make, expected = MODES[mode]
    make().save(tmp_path / "x.png")
    assert values(tmp_path / "x.png") == expected


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    assert values(tmp_path / "x.tif")[0] == list(RED)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_pictures_are_turned_upright(suffix: str, tmp_path: Path) -> None:
    """Orientation 6: the first row is the right-hand side, so the black left half becomes the upper one."""
    stored = np.zeros((16, 32), np.uint8)
    stored[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).convert("RGB").save(tmp_path / f"x.{suffix}", exif=exif)
    upright = np.asarray(read_picture(tmp_path / f"x.{suffix}").convert("L")).astype(int)
    assert upright.shape == (32, 16)
    assert upright[:12].max() < 40
    assert upright[20:].min() > 215


def test_a_conversion_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "x.tif")

    def fail(*_: object, **__: object) -> None:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(DataFileError, match=r"x\.tif is not a whole picture: conversion not supported"):
        read_picture(tmp_path / "x.tif")


def test_very_large_pictures_are_read_in_silence_and_larger_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    Image.new("L", (1000, 3000)).save(tmp_path / "large.png")
    Image.new("L", (1000, 4001)).save(tmp_path / "larger.png")
    with warnings.catch_warnings(record=True) as caught_warnings:
        importlib.reload(sys.modules[read_picture.__module__])  # pytest has put its own filters in place
        assert read_picture(tmp_path / "large.png").size == (1000, 3000)
    assert caught_warnings == []
    with pytest.raises(DataFileError) as caught:
        read_picture(tmp_path / "larger.png")
    assert str(caught.value) == f"{tmp_path}/larger.png has more than 4 million pixels; save it smaller"


def test_postscript_is_not_handed_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow goes by the content: a file of any name that begins like PostScript would be run by Ghostscript."""
    called = tmp_path / "called"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {called}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(
        DataFileError, match=r"picture\.png is a picture of no known format, or damaged \(known: BMP"
    ):
        read_picture(picture)
    assert not called.exists()


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"])
def test_every_format_that_is_listed_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("L" if suffix == "pgm" else "RGB", (4, 3), 7 if suffix == "pgm" else (7, 7, 7)).save(path)
    assert read_picture(path).size == (4, 3)
    assert f".{suffix}" in SUFFIXES
