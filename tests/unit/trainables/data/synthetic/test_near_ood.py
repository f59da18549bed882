"""Near OOD that is made of ID images: which pixel comes from where."""

import numpy as np
import pytest

from trainables.data.synthetic.near_ood import CELLS, REACH, halves, patchwork, warped

Random = np.random.RandomState


def constant(value: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize(("width", "left"), [(8, 4), (9, 4)])
def test_the_right_half_is_the_partners(width: int, left: int) -> None:
    out = halves(constant(1, (2, 3, 8, width)), constant(2, (2, 3, 8, width)))
    assert out.dtype == np.uint8
    assert (out[..., :left] == 1).all()
    assert (out[..., left:] == 2).all()


@pytest.mark.parametrize("side", [8, 32])
def test_a_patchwork_is_of_whole_cells_half_of_them_the_partners(side: int) -> None:
    shape = (200, 3, side, side)
    out = patchwork(constant(1, shape), constant(2, shape), Random(0))
    assert set(np.unique(out)) == {1, 2}
    cells = out.reshape(200, 3, CELLS, side // CELLS, CELLS, side // CELLS).transpose(0, 2, 4, 1, 3, 5)
    cells = cells.reshape(200, CELLS * CELLS, -1)
    assert (cells == cells[..., :1]).all(), "one origin for all pixels and channels of a cell"
    # 12,800 cells: the standard error of the share is .0044
    assert (cells[..., 0] == 2).mean() == pytest.approx(0.5, abs=0.02)


def test_a_warp_bends_and_leaves_the_colours() -> None:
    flat = np.full((3, 3, 16, 16), 0.25)
    assert np.allclose(warped(flat, Random(0)), 0.25)
    ramp = np.broadcast_to(np.arange(64) / 63, (4, 1, 64, 64))  # the value is the column
    moved = np.abs(warped(ramp, Random(1)) - ramp)[:, 0] * 63
    assert moved.max() <= REACH * 64 + 1e-9
    # by so much at one pixel of each image, unless that lies at the edge, which is repeated
    assert np.median(moved.max((1, 2))) > 0.8 * REACH * 64
    neighbours = np.abs(np.diff(warped(ramp, Random(1))[:, 0], axis=1)) * 63
    assert neighbours.max() < 8, "smooth: no pixel is torn from the next row's"


def test_each_image_is_bent_in_its_own_way() -> None:
    ramp = np.broadcast_to(np.arange(16) / 15, (2, 1, 16, 16))
    first, second = warped(ramp, Random(0))
    assert not np.allclose(first, second)
