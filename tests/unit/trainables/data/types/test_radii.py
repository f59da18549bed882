"""The radii that images are attacked with where no spec names them: by their size."""

import pytest

from trainables.data.types.radii import Radii, radii_of, radius_text


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [
        (8, 8, 16 / 255),
        (16, 300, 16 / 255),
        (17, 17, 8 / 255),
        (32, 32, 8 / 255),
        (64, 64, 8 / 255),
        (96, 128, 8 / 255),
        (97, 97, 4 / 255),
        (224, 224, 4 / 255),
        (1024, 1024, 4 / 255),
    ],
)
def test_the_radius_of_the_users_own_images_follows_their_shorter_side(
    height: int, width: int, radius: float
) -> None:
    assert radii_of("imagefolder", (3, height, width)) == Radii((radius,), (radius,))


def test_a_published_set_has_the_radii_of_its_literature() -> None:
    assert radii_of("mnist") == Radii((0.15, 0.3), (0.1,))
    assert radii_of("imagenet") == Radii((4 / 255,), (4 / 255,))


@pytest.mark.parametrize(
    ("radius", "text"),
    [(8 / 255, "8/255"), (0.1, "0.1"), (0.2, "0.2"), (1 / 255, "1/255"), (0.3137, "0.3137")],
)
def test_radii_are_written_as_the_literature_writes_them(radius: float, text: str) -> None:
    assert radius_text(radius) == text
