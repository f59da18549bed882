"""Pictures are brought to the task's size."""

import numpy as np
import pytest
from PIL import Image

from trainables.data.types.lazy_images import fit


@pytest.mark.parametrize("width", [29, 58, 116, 123])
def test_a_side_that_rounding_puts_outside_the_picture(width: int) -> None:
    """224 * (58 / 224) is more than 58 by one rounding; Pillow refuses a box outside, and the training ended."""
    assert 224 * (width / 224) > width
    pixels = np.arange(width * 3 * width, dtype=np.uint8).reshape(3 * width, width)
    for picture in (Image.fromarray(pixels), Image.fromarray(pixels.T.copy())):
        assert fit(picture, (1, 224, 224)).shape == (1, 224, 224)
