"""Device-resident loading: every image its own draw, every seed its own order, every state resumable."""

import pickle
import warnings
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from trainables.data.loading.device_loader import (
    RESIZED,
    TRIES,
    DeviceLoader,
    OutlierLoader,
    augment,
    crop_boxes,
    resized_crops,
    to_device,
    to_unit,
)
from trainables.data.types.benchmark import LabelledImages


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(n: int) -> LabelledImages:
    """Return n images that carry their number in every pixel, which is their label too."""
    pixels = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    return LabelledImages(pixels, np.arange(n))


def numbers(images: Tensor) -> list[int]:
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def test_uint8_is_scaled_and_float_is_not() -> None:
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_unit(torch.tensor([0.25, 1.0], dtype=torch.float64)).tolist() == [0.25, 1]


def test_to_device_copies_read_only_and_strided_arrays() -> None:
    array = np.arange(12).reshape(3, 4)[:, ::-1]
    array.flags.writeable = False
    tensor = to_device(array, "cpu")
    tensor += 1
    assert tensor[0].tolist() == [4, 3, 2, 1]
    assert array[0].tolist() == [3, 2, 1, 0]


def over_the_wire(data: LabelledImages) -> LabelledImages:
    """Return a set as Ray's object store gives it: the arrays are read-only views of shared memory."""
    buffers: list[pickle.PickleBuffer] = []
    message = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(message) < 1000, "pixels travel beside the message, not in it"
    return cast(LabelledImages, pickle.loads(message, buffers=[bytes(buffer) for buffer in buffers]))


def test_on_the_cpu_a_loader_holds_the_shared_array_itself() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8)).astype(np.uint8)
    shared = over_the_wire(LabelledImages(images, np.arange(9)))
    assert not shared.images.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = DeviceLoader(shared, 3, "cpu", seeded(), "crop_flip")
        outliers = OutlierLoader(shared.images, "cpu", seeded(), "crop_flip")
    assert loader.images.data_ptr() == shared.images.ctypes.data
    for batch, _ in loader:
        batch.zero_()  # a batch is a copy
    outliers.next(4).zero_()
    assert np.array_equal(shared.images, images)
    strided = DeviceLoader(LabelledImages(images[:, ::-1], np.arange(9)), 3, "cpu", seeded())
    assert strided.images.data_ptr() != images.ctypes.data
    assert np.array_equal(strided.images.numpy(), images[:, ::-1])


def test_none_changes_nothing_and_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    x = torch.rand(5, 3, 8, 8)
    assert augment(x, "none", generator) is x
    assert torch.equal(generator.get_state(), before)


def test_flip_is_drawn_per_image() -> None:
    x = torch.rand(400, 3, 8, 8, generator=seeded(1))
    out = augment(x, "flip", seeded())
    kept = (out == x).flatten(1).all(1)
    flipped = (out == x.flip(3)).flatten(1).all(1)
    assert (kept ^ flipped).all()
    assert 160 < int(flipped.sum()) < 240


@pytest.mark.parametrize(("side", "pad"), [(8, 1), (32, 4), (4, 1)])
def test_crop_is_a_window_of_the_padded_image_drawn_per_image(side: int, pad: int) -> None:
    n = 300
    x = torch.rand(n, 2, side, side, generator=seeded(1)) + 0.1
    out = augment(x, "crop", seeded())
    assert out.shape == x.shape
    assert out.is_contiguous()
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    offsets = []
    for i in range(n):
        matches = [
            (top, left)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            if torch.equal(out[i], padded[i, :, top : top + side, left : left + side])
        ]
        assert len(matches) == 1
        offsets += matches
    assert len(set(offsets)) > 0.8 * (2 * pad + 1) ** 2
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(2 * pad + 1))


def test_crop_flip_does_both_and_repeats_with_the_seed() -> None:
    x = torch.rand(50, 1, 8, 8, generator=seeded(1))
    out = augment(x, "crop_flip", seeded())
    assert torch.equal(out, augment(x, "crop_flip", seeded()))
    assert not torch.equal(out, augment(x, "crop_flip", seeded(1)))
    flipped = torch.where(
        (torch.rand(50, generator=seeded()) < 0.5)[:, None, None, None], x.flip(3), x
    )  # the first draw of the stream
    centre = (out == flipped).flatten(1).all(1)
    assert 0 < int(centre.sum()) < 50


def test_a_flipped_image_is_cropped_after_it_was_flipped() -> None:
    """Both draws by hand, on bytes that are not square."""
    x = torch.randint(0, 256, (40, 3, 8, 12), dtype=torch.uint8, generator=seeded(1))
    out = augment(x, "crop_flip", seeded(2))
    draws = seeded(2)
    flips = torch.rand(40, generator=draws) < 0.5
    top, left = torch.randint(0, 3, (2, 40, 1), generator=draws)
    for i in range(40):
        image = torch.nn.functional.pad(x[i].flip(2) if flips[i] else x[i], (1, 1, 1, 1))
        wanted = image[:, int(top[i]) : int(top[i]) + 8, int(left[i]) : int(left[i]) + 12]
        assert torch.equal(out[i], wanted)


def test_an_epoch_sees_every_image_once_and_drops_the_short_batch() -> None:
    loader = DeviceLoader(numbered(50), 8, "cpu", seeded())
    assert len(loader) == 6
    batches = [(numbers(images), labels.tolist()) for images, labels in loader]
    assert [len(labels) for _, labels in batches] == [8] * 6
    assert all(found == labels for found, labels in batches)
    seen = [label for _, labels in batches for label in labels]
    assert len(set(seen)) == 48


def test_every_epoch_and_seed_has_its_own_order() -> None:
    def epochs(seed: int) -> list[list[int]]:
        loader = DeviceLoader(numbered(40), 10, "cpu", seeded(seed))
        return [[int(y) for _, labels in loader for y in labels] for _ in range(2)]

    first, second = epochs(0)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    loader = DeviceLoader(numbered(5), 64, "cpu", seeded())
    assert len(loader) == 1
    ((images, labels),) = loader
    assert sorted(numbers(images)) == sorted(labels.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 3, 7, 10, 25])
def test_outliers_come_in_whole_rounds(count: int) -> None:
    """Whatever the count, also above the pool of 10, every ten images are all ten outliers."""
    loader = OutlierLoader(numbered(10).images, "cpu", seeded())
    stream: list[int] = []
    while len(stream) < 100:
        batch = loader.next(count)
        assert batch.shape == (count, 1, 4, 4)
        stream += numbers(batch)
    rounds = [stream[i : i + 10] for i in range(0, 100, 10)]
    assert all(sorted(r) == list(range(10)) for r in rounds)
    assert len({tuple(r) for r in rounds}) == 10  # reshuffled every time


def test_outlier_loader_resumes_in_mid_round() -> None:
    generator = seeded()
    loader = OutlierLoader(numbered(10).images, "cpu", generator, "crop_flip")
    loader.next(13)
    state, stream = loader.state_dict(), generator.get_state()
    expected = [loader.next(4) for _ in range(5)]
    other = seeded(99)
    resumed = OutlierLoader(numbered(10).images, "cpu", other, "crop_flip")
    other.set_state(stream)
    resumed.load_state_dict(state)
    for wanted in expected:
        assert torch.equal(resumed.next(4), wanted)
    assert state["order"].shape == (7,)  # the saved state did not move along


def windows(*draws: tuple[float, float, float, float]) -> Tensor:
    """Return draws of one image: these first, then windows of all of the picture, which fit into squares only."""
    return torch.tensor([[*draws, *[(0.9999, 0.5, 0.0, 0.0)] * (TRIES - len(draws))]])


def test_windows_golden() -> None:
    """Of 100 x 200: area 0.08 x 20000 at ratio 1 is 40 x 40, its top at 61 / 2, its left at 0 of 161 places.

    0.54 x 20000 at ratio 1 is 104 x 104, which does not fit: the next draw is taken. Ratio 4/3 of 1600 is 46 x 35.
    Where none fits, the whole picture is cut to 4:3, 133 x 100 from its middle.
    """
    small = (0.0, 0.5, 0.5, 0.0)
    assert crop_boxes(100, 200, windows(small))[0].tolist() == [30, 0, 40, 40]
    assert crop_boxes(100, 200, windows((0.5, 0.5, 0.5, 0.0), small))[0].tolist() == [30, 0, 40, 40]
    assert crop_boxes(100, 200, windows((0.0, 1.0, 0.0, 0.0)))[0].tolist() == [0, 0, 35, 46]
    assert crop_boxes(100, 200, windows())[0].tolist() == [0, 33, 100, 133]


def test_windows_have_the_areas_and_ratios_that_were_asked_for() -> None:
    boxes = crop_boxes(96, 128, torch.rand(2000, TRIES, 4, generator=seeded()))
    top, left, h, w = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 96).all() and (left + w <= 128).all()  # noqa: PT018
    assert (h * w / (96 * 128)).min() > 0.07
    assert (w / h).log().abs().max() < np.log(4 / 3) + 0.05
    torch.manual_seed(0)
    picture = torch.zeros(3, 96, 128)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)]
    )
    for ours, column in zip((top, left, h, w), theirs.float().T, strict=True):
        assert ours.mean().item() == pytest.approx(column.mean().item(), abs=2.5)
        assert ours.std().item() == pytest.approx(column.std().item(), abs=2.5)


def test_a_window_is_scaled_to_the_image() -> None:
    """On a ramp across, a window of w columns from `left` is a ramp from left to left + w: its ends follow the box."""
    ramp = (torch.arange(64) + 0.5).repeat(200, 3, 64, 1) / 64
    cut = resized_crops(ramp, seeded(3))
    boxes = crop_boxes(64, 64, torch.rand(200, TRIES, 4, generator=seeded(3)))
    middle = cut[:, 0, 32, 31:33].mean(1) * 64
    assert cut.shape == ramp.shape
    torch.testing.assert_close(middle, boxes[:, 1] + boxes[:, 3] / 2, rtol=0, atol=1e-3)
    torch.testing.assert_close(
        (cut[:, 0, 32, 40] - cut[:, 0, 32, 24]) * 64, boxes[:, 3] / 4, rtol=0, atol=1e-3
    )


def test_resized_crops_are_flipped_too_and_need_no_floats() -> None:
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=seeded())
    expected = augment(resized_crops(images, own := seeded(5)), "flip", own)
    found = augment(images, RESIZED, seeded(5))
    assert torch.equal(found, expected)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < found.max() <= 1
