"""What holds of loaders and splits for any sizes: every image once, whole rounds, no image in two splits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading.device_loader import DeviceLoader, OutlierLoader
from trainables.data.loading.from_files import held_out
from trainables.data.loading.stream_loader import StreamLoader, in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_spec import HoldOut
from trainables.data.types.lazy_images import ArraySource, LazyImages

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PICTURES = disk.pixels(30, 6, 6)


def numbered(n: int) -> LabelledImages:
    """Return n images of which every value is the number of the image, and so is the label."""
    pixels = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 4), np.uint8)
    return LabelledImages(pixels, np.arange(n))


def lazily(data: LabelledImages) -> LabelledImages:
    images = LazyImages(ArraySource(data.images.transpose(0, 2, 3, 1)), (3, 4, 4))
    return LabelledImages(images, data.labels)  # type: ignore[arg-type]


@quick
@given(n=st.integers(1, 60), batch=st.integers(1, 70), seed=st.integers(0, 2**31), stream=st.booleans())
def test_an_epoch_is_a_permutation_less_the_short_batch(n: int, batch: int, seed: int, stream: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    data = numbered(n)
    loader = (
        StreamLoader(lazily(data), batch, "cpu", generator, threads=2)
        if stream
        else DeviceLoader(data, batch, "cpu", generator)
    )
    size = min(batch, n)
    for _ in range(2):
        seen = []
        for images, labels in loader:
            assert images.shape == (size, 3, 4, 4)
            assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels), (
                "labels go with their images"
            )
            seen += labels.tolist()
        assert len(seen) == len(loader) * size == n // size * size
        assert len(set(seen)) == len(seen)


@quick
@given(
    n=st.integers(1, 20),
    counts=st.lists(st.integers(1, 45), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    stop=st.integers(0, 5),
)
def test_outliers_come_in_whole_rounds_also_across_a_resume(
    n: int, counts: list[int], seed: int, stop: int
) -> None:
    def loader() -> OutlierLoader:
        return OutlierLoader(numbered(n).images, "cpu", torch.Generator().manual_seed(seed))

    def take(source: OutlierLoader, wanted: list[int]) -> list[int]:
        return [i for count in wanted for i in (source.next(count)[:, 0, 0, 0] * 255).round().int().tolist()]

    whole = take(loader(), counts)
    for start in range(0, len(whole) - n + 1, n):
        assert sorted(whole[start : start + n]) == list(range(n))
    first, second = loader(), loader()
    begun = take(first, counts[:stop])
    second.load_state_dict(first.state_dict())
    second.generator.set_state(first.generator.get_state())
    assert begun + take(second, counts[stop:]) == whole


@quick
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    count=st.integers(0, 60),
    first=st.booleans(),
)
def test_held_out_images_are_a_tenth_at_most_and_leave_every_class_something(
    labels: list[int], count: int, first: bool
) -> None:
    array = np.array(labels)
    if not first and np.bincount(array).max() == 1:
        with pytest.raises(DataFileError, match="leave none for validation"):
            held_out(array, HoldOut(count, first), "x")
        return
    rows = held_out(array, HoldOut(count, first), "x")
    assert np.array_equal(rows, np.unique(rows)), "sorted, each once"
    assert 1 <= len(rows) <= max(1, len(array) // 10)
    assert np.array_equal(rows, held_out(array, HoldOut(count, first), "x"))
    if first:
        assert np.array_equal(rows, np.arange(len(rows)))
    else:
        assert set(np.delete(array, rows)) == set(array)


@quick
@given(data=st.data(), size=st.sampled_from([6, 4]))
def test_lazy_images_index_as_their_array_does(data: st.DataObject, size: int) -> None:
    images = LazyImages(ArraySource(PICTURES), (3, size, size))
    whole = np.asarray(images)
    rows = data.draw(st.lists(st.integers(-30, 29), max_size=20))
    cut = data.draw(st.slices(30))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=30, max_size=30)))
    assert np.array_equal(images[rows], whole[rows].reshape(-1, 3, size, size))
    assert np.array_equal(np.asarray(images[cut]), whole[cut])
    assert np.array_equal(images[mask], whole[mask])
    assert np.array_equal(np.asarray(images[cut][::-1]), whole[cut][::-1])


@pytest.mark.parametrize("lazy", [False, True])
@quick
@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_in_order_is_the_set(lazy: bool, n: int, size: int, tmp_path: Path) -> None:
    data = numbered(n)
    source = lazily(data).images if lazy else data.images
    found = torch.cat(list(in_order(source, size, "cpu")))
    assert np.array_equal(found.numpy(), data.images)
