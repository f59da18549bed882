"""Streaming gives the batches of the device-resident loader, bit for bit, with few threads and little memory."""

import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading import stream_loader
from trainables.data.loading.device_loader import RESIZED, TRIES, DeviceLoader, augment, crop_boxes
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.loading.stream_loader import StreamLoader, decoded, in_order, make_loader
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import ArraySource, FileSource, LazyImages, NpySource
from trainables.data.types.picture_files import picture_files

SHAPE = (3, 16, 16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lazy(folder: Path, n: int = 23) -> LabelledImages:
    for i in range(n):
        disk.picture(folder / f"{i:03d}.png", width=20, height=18, seed=i)
    source = FileSource(folder, picture_files(folder))
    return LabelledImages(LazyImages(source, SHAPE), np.arange(n))  # type: ignore[arg-type]


def arrays(data: LabelledImages) -> LabelledImages:
    return LabelledImages(np.asarray(data.images), data.labels)


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_those_of_the_device_loader(augmentation: str, threads: int, tmp_path: Path) -> None:
    data = lazy(tmp_path)
    ours, theirs = seeded(), seeded()
    stream = StreamLoader(data, 5, "cpu", ours, augmentation, threads=threads)
    device = DeviceLoader(arrays(data), 5, "cpu", theirs, augmentation)
    assert len(stream) == len(device) == 4
    for _ in range(2):
        for (a, la), (b, lb) in zip(stream, device, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(la, lb)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_an_epoch_that_is_left_early_ends_its_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    stream = StreamLoader(lazy(tmp_path), 2, "cpu", seeded())
    for _ in stream:
        break
    epoch = iter(stream)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


class Counting:
    """An array source that counts how many are being decoded at once, and how many were."""

    def __init__(self, n: int) -> None:
        self.inner = ArraySource(disk.pixels(n, 8, 8))
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __len__(self) -> int:
        return len(self.inner)

    def picture(self, row: int) -> Image.Image:
        with self.lock:
            self.now, self.total = self.now + 1, self.total + 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self.lock:
            self.now -= 1
        return self.inner.picture(row)

    def ready(self, rows: np.ndarray, shape: object) -> None:
        return None

    def identity(self) -> object:
        return self.inner.identity()


def test_decoders_and_batches_ahead_are_bounded() -> None:
    source = Counting(200)
    images = LazyImages(source, SHAPE)  # type: ignore[arg-type]
    rows = [np.arange(k, k + 10) for k in range(0, 200, 10)]
    batches = decoded(images, rows, torch.device("cpu"), threads=3, ahead=2)
    next(batches)
    time.sleep(0.3)
    assert source.total <= 30, "one batch handed out and two ahead"
    batches.close()
    assert source.most <= 3


def test_a_picture_that_cannot_be_read_ends_the_epoch_with_its_name(tmp_path: Path) -> None:
    data = lazy(tmp_path)
    (tmp_path / "007.png").write_bytes(b"broken")
    with pytest.raises(DataFileError, match=r"007\.png is a picture of no known format, or damaged"):
        list(StreamLoader(data, 5, "cpu", seeded()))
    with pytest.raises(DataFileError, match=r"007\.png"):
        np.asarray(data.images)


def test_images_on_demand_are_device_tensors(tmp_path: Path) -> None:
    data = lazy(tmp_path)
    stream, whole = StreamLoader(data, 4, "cpu", seeded()), torch.tensor(np.asarray(data.images))
    assert len(stream.images) == 23
    assert stream.images.shape == (23, *SHAPE)
    assert torch.equal(stream.images[:6], whole[:6])
    assert torch.equal(stream.images[torch.tensor([3, 1])], whole[[3, 1]])
    assert stream.images[2:4].dtype == torch.uint8
    assert stream.labels.tolist() == list(range(23))


def test_make_loader_chooses(tmp_path: Path) -> None:
    data = lazy(tmp_path)
    assert isinstance(make_loader(data, 4, "cpu", seeded()), StreamLoader)
    assert isinstance(make_loader(arrays(data), 4, "cpu", seeded()), DeviceLoader)


@pytest.mark.parametrize("size", [4, 23, 100])
def test_in_order_gives_everything_once(size: int, tmp_path: Path) -> None:
    data = lazy(tmp_path)
    whole = torch.tensor(np.asarray(data.images))
    for images in (data.images, np.asarray(data.images)):
        batches = list(in_order(images, size, "cpu"))
        assert torch.equal(torch.cat(batches), whole)
        assert {len(b) for b in batches[:-1]} <= {size}


# -- lazy images -------------------------------------------------------------------------------------------


def test_lazy_images_index_as_arrays_do(tmp_path: Path) -> None:
    images = lazy(tmp_path).images
    whole = np.asarray(images)
    assert whole.dtype == np.uint8
    assert images.shape == whole.shape
    assert images.nbytes == whole.nbytes
    assert np.array_equal(images[3], whole[3])
    assert np.array_equal(images[-1], whole[-1])
    assert np.array_equal(images[[5, 2]], whole[[5, 2]])
    assert np.array_equal(images[whole[:, 0, 0, 0] > 100], whole[whole[:, 0, 0, 0] > 100])
    assert np.array_equal(images[:, 1], whole[:, 1])
    part = images[4:20:3]
    assert isinstance(part, LazyImages)
    assert np.array_equal(np.asarray(part), whole[4:20:3])
    assert np.array_equal(np.concatenate([images, part]), np.concatenate([whole, whole[4:20:3]]))
    assert np.asarray(images, dtype=np.float32).dtype == np.float32
    assert len(images[:None]) == 23
    assert images[[]].shape == (0, *SHAPE)
    with pytest.raises(IndexError):
        images[23]


def test_arrays_of_the_right_size_are_not_touched_and_others_are_scaled() -> None:
    colour, grey = disk.pixels(5, 16, 16), disk.pixels(5, 16, 16, 1)
    rows = np.array([4, 0])
    assert np.array_equal(
        LazyImages(ArraySource(colour), SHAPE, rows)[:2][[0, 1]], colour[rows].transpose(0, 3, 1, 2)
    )
    as_rgb = np.asarray(LazyImages(ArraySource(grey), SHAPE))
    assert np.array_equal(as_rgb[:, 0], grey)
    assert np.array_equal(as_rgb[:, 2], grey)
    as_grey = np.asarray(LazyImages(ArraySource(colour), (1, 16, 16)))
    weights = colour.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(as_grey[:, 0] - weights).max() <= 1
    scaled = np.asarray(LazyImages(ArraySource(colour), (3, 8, 8)))
    expected = Image.fromarray(colour[0]).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(scaled[0].transpose(1, 2, 0), np.asarray(expected))


def test_npy_rows_are_mapped_where_they_are_used(tmp_path: Path) -> None:
    whole = disk.pixels(10, 16, 16)
    np.save(tmp_path / "x.npy", whole)
    images = LazyImages(NpySource(tmp_path / "x.npy", 2, 7), SHAPE)
    assert np.array_equal(np.asarray(images), whole[2:7].transpose(0, 3, 1, 2))
    copy = pickle.loads(pickle.dumps(images))
    assert np.array_equal(copy[[1]], whole[[3]].transpose(0, 3, 1, 2))


def test_fingerprints_of_lazy_images_tell_files_apart_without_reading_them(tmp_path: Path) -> None:
    a, b = lazy(tmp_path / "a"), lazy(tmp_path / "b")
    assert fingerprint_images(a) == fingerprint_images(b), "the folder's own name does not count"
    variants = [
        a,
        LabelledImages(a.images[:22], a.labels[:22]),
        LabelledImages(a.images[::-1], a.labels),
        LabelledImages(a.images, a.labels[::-1]),
        LabelledImages(LazyImages(a.images.source, (3, 8, 8)), a.labels),  # type: ignore[attr-defined, arg-type]
    ]
    prints = {fingerprint_images(v) for v in variants}
    assert len(prints) == len(variants)
    (tmp_path / "b" / "003.png").write_bytes(b"another length")
    assert fingerprint_images(b) not in prints


@pytest.mark.parametrize(
    ("gpus", "cpus", "decoders"),
    [(1.0, 1, 8), (0.5, 1, 4), (0.25, 2, 2), (0.1, 1, 1), (2.0, 1, 16), (0.0, 1, 1), (0.0, 3, 3)],
)
def test_trials_that_share_a_gpu_share_its_decoders(gpus: float, cpus: int, decoders: int) -> None:
    """Eight for a GPU: a quarter of one gets two."""
    try:
        assert stream_loader.set_decoders(gpus, cpus) == decoders
        images = np.zeros((4, 3, 8, 8), np.uint8)
        data = LabelledImages(images, np.zeros(4, np.int64))
        assert StreamLoader(data, 2, "cpu", torch.Generator()).threads == decoders
    finally:
        stream_loader._threads = stream_loader.THREADS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_batches_are_those_of_the_device_loader(tmp_path: Path) -> None:
    data = lazy(tmp_path)
    ours, theirs = (torch.Generator("cuda").manual_seed(0) for _ in range(2))
    stream = StreamLoader(data, 5, "cuda", ours, "crop_flip")
    device = DeviceLoader(arrays(data), 5, "cuda", theirs, "crop_flip")
    for (a, la), (b, lb) in zip(stream, device, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


@pytest.mark.parametrize("threads", [1, 3])
def test_windows_are_cut_out_of_the_pictures_in_their_own_size(threads: int, tmp_path: Path) -> None:
    """The batches are Pillow's crops of the files by the same draws, whatever the number of threads."""
    data = lazy(tmp_path)
    stream = StreamLoader(data, 5, "cpu", seeded(), RESIZED, threads=threads)
    again = seeded()
    order = torch.randperm(23, generator=again)
    draws = torch.rand(23, TRIES, 4, generator=again)
    for step, (images, labels) in enumerate(stream):
        rows = order[5 * step : 5 * step + 5]
        assert torch.equal(labels, rows)
        cut = []
        for place, row in enumerate(rows):
            picture = Image.open(tmp_path / f"{row:03d}.png").convert("RGB")
            top, left, h, w = crop_boxes(18, 20, draws[5 * step + place][None])[0].tolist()
            box = (left, top, left + w, top + h)
            cut.append(
                np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
            )
        expected = augment(torch.from_numpy(np.stack(cut)) / 255, "flip", again)
        assert torch.equal(images, expected)


def test_an_epoch_of_windows_resumes_from_the_generator_alone(tmp_path: Path) -> None:
    data, generator = lazy(tmp_path), seeded()
    stream = StreamLoader(data, 5, "cpu", generator, RESIZED)
    list(stream)
    state = generator.get_state()
    second = [images for images, _ in stream]
    resumed = torch.Generator()
    resumed.set_state(state)
    again = [images for images, _ in StreamLoader(data, 5, "cpu", resumed, RESIZED, threads=2)]
    assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
