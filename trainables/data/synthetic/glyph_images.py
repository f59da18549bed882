"""Draw characters on textures: 32 x 32 RGB images from a seed, out of the fonts that matplotlib ships. No torch.

Every image draws a font, an affine map (turn, size, shear, place), two textures and their colours, and noise.
Images come in blocks of `BLOCK`, each with its own random stream, so that the first n images of a large set
are those of a small one, and in each block every character is as frequent as the next.
"""

from functools import cache
from pathlib import Path

import numpy as np

from trainables.base.seeds import derive_seed
from trainables.data.synthetic.made_ood import Random

Array = np.ndarray

SIDE = 32
BLOCK = 500
_MASTER = 64  #: pixels a side of the drawing that is mapped into each image
_INK = 44  #: pixels of the longer side of a character in it

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)


def font_file(name: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@cache
def _master(font: str, character: str) -> Array:
    """Return a character as uint8 (64, 64), white on black, centred, its longer side 44 pixels."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = ImageFont.truetype(str(font_file(font)), 96, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (256, 256))
    ImageDraw.Draw(canvas).text((64, 64), character, fill=255, font=drawn)
    box = canvas.getbbox()
    assert box is not None, f"{font} has no {character}"
    ink = canvas.crop(box)
    scale = _INK / max(ink.size)
    ink = ink.resize(
        (max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BILINEAR
    )
    master = Image.new("L", (_MASTER, _MASTER))
    master.paste(ink, ((_MASTER - ink.width) // 2, (_MASTER - ink.height) // 2))
    return np.asarray(master)


def draw(characters: str, count: int, *keys: str | int) -> tuple[Array, Array]:
    """Return images uint8 (count, 3, 32, 32) and for each the place of its character, (count,) int64.

    Args:
        characters: without any, the images are textures alone and the labels 0.
        keys: the random streams depend on them.
    """
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.int64)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        rng = Random(derive_seed(0, "glyphs", *keys, start // BLOCK) % 2**32)
        block_labels = rng.permutation(np.arange(BLOCK) % max(1, len(characters)))
        images[start : start + size] = _block(characters, block_labels, rng)[:size]
        labels[start : start + size] = block_labels[:size]
    return images, labels


def _block(characters: str, labels: Array, rng: Random) -> Array:
    behind, front = _colours(rng, len(labels))
    image = _textured(behind, rng)
    ink = _textured(front, rng, strength=0.4)
    if characters:
        mask = _masks(characters, labels, rng)[:, None]
        image = image + mask * (ink - image)
    image = image + rng.uniform(0.0, 0.08, (len(labels), 1, 1, 1)) * rng.standard_normal(image.shape)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _masks(characters: str, labels: Array, rng: Random) -> Array:
    """Return how much ink each pixel has, (n, 32, 32) in [0, 1].

    Pillow maps in fixed point, so that the result is the same on every machine.
    """
    from PIL import Image

    n = len(labels)
    fonts = rng.randint(len(FONTS), size=n)
    turn = np.deg2rad(rng.uniform(-30, 30, n))
    size = rng.uniform(0.38, 0.72, n)  # of the longer side: 17 to 32 pixels
    stretch = np.exp(rng.uniform(-0.25, 0.25, n))
    shear = rng.uniform(-0.3, 0.3, n)
    place = SIDE / 2 + rng.uniform(-4, 4, (n, 2))
    masks = np.empty((n, SIDE, SIDE), np.float32)
    for i in range(n):
        cos, sin = np.cos(turn[i]), np.sin(turn[i])
        # from the image back into the drawing: turn, shear, stretch and size undone in this order
        xx, xy = (
            (cos + shear[i] * sin) / (size[i] * stretch[i]),
            (sin - shear[i] * cos) / (size[i] * stretch[i]),
        )
        yx, yy = -sin / size[i], cos / size[i]
        x, y = place[i]
        affine = (xx, xy, _MASTER / 2 - xx * x - xy * y, yx, yy, _MASTER / 2 - yx * x - yy * y)
        master = Image.fromarray(_master(FONTS[fonts[i]], characters[labels[i]]))
        mapped = master.transform((SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        masks[i] = np.asarray(mapped)
    return masks / 255


def _colours(rng: Random, n: int) -> tuple[Array, Array]:
    """Return background and ink colours, (n, 3, 1, 1) each, 0.25 apart in brightness at least."""
    behind, front = rng.uniform(0, 1, (2, n, 3))
    weights = np.array([0.299, 0.587, 0.114])
    brightness = behind @ weights
    alike = np.abs(front @ weights - brightness) < 0.25
    end = np.where(brightness < 0.5, 1.0, 0.0)  # white on dark, black on light: a way of 0.5 at least
    share = rng.uniform(0.25, 0.5, n) / np.abs(end - brightness)
    front[alike] = (behind + share[:, None] * (end[:, None] - behind))[alike]
    return behind[:, :, None, None], front[:, :, None, None]


def _textured(colour: Array, rng: Random, strength: float = 0.7) -> Array:
    """Return each colour mixed with another along a texture, (n, 3, 32, 32)."""
    n = len(colour)
    other = np.clip(colour + strength * rng.uniform(-0.5, 0.5, colour.shape), 0, 1)
    texture = _textures(rng, n)[:, None]
    mixed: Array = colour + texture * (other - colour)
    return mixed


def _textures(rng: Random, n: int) -> Array:
    """Return fields (n, 32, 32) in [0, 1]: gradients, stripes, checks, clouds or grain."""
    grid = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    angle, phase = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    along = np.cos(angle) * grid[None, :, None] + np.sin(angle) * grid[None, None, :]
    across = -np.sin(angle) * grid[None, :, None] + np.cos(angle) * grid[None, None, :]
    waves = 2 * np.pi * rng.uniform(2, 7, (n, 1, 1))
    coarse, fine = rng.random_sample((n, 5, 5)), rng.random_sample((n, 16, 16))
    fields = np.stack(
        [
            along / np.sqrt(2) + 0.5,
            0.5 + 0.5 * np.sin(waves * along + phase),
            0.5 + 0.5 * np.sign(np.sin(waves * along + phase) * np.sin(waves * across)),
            _spread(5) @ coarse @ _spread(5).T,
            _spread(16) @ fine @ _spread(16).T,
        ]
    )
    return fields[rng.randint(len(fields), size=n), np.arange(n)]


@cache
def _spread(cells: int) -> Array:
    """Return the (32, cells) matrix of linear interpolation from cells points to 32 pixels."""
    at = np.linspace(0, cells - 1, SIDE)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
