"""Arrays inside npz files: mapped or read by rows, never whole; damaged files say so or give what was written."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading.stylised import open_pictures
from trainables.data.readers import npz_arrays
from trainables.data.readers.npz_arrays import mapped_array, rows_of
from trainables.data.readers.outlier_files import check_outlier_files
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.splits import DatasetInfo
from trainables.options import build
from trainables.options.common import OutlierOptions
from trainables.outliers.sampling import sample_outliers

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8)).astype(np.uint8)


def save(path: Path, compressed: bool, **arrays: np.ndarray) -> None:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_array_is_mapped_in_place_or_unpacked_once(compressed: bool, tmp_path: Path) -> None:
    path, cache = tmp_path / "x.npz", tmp_path / "cache"
    save(path, compressed, label=np.arange(23), image=IMAGES)
    for _ in range(2):
        found = mapped_array(path, "image", cache)
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, IMAGES)
    assert len(list(cache.rglob("*.npy"))) == compressed
    save(path, compressed, label=np.arange(23), image=255 - IMAGES)
    np.testing.assert_array_equal(mapped_array(path, "image", cache), 255 - IMAGES)


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 22), unique=True), block=st.sampled_from([1, 192, 500, 2**24]))
def test_rows_come_in_the_order_asked_for_whatever_the_blocks(
    compressed: bool, rows: list[int], block: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.npz"
    save(path, compressed, x=IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz_arrays, "_BLOCK_BYTES", block)
        found = rows_of(path, "x", np.array(rows, np.int64))
    np.testing.assert_array_equal(found, IMAGES[np.array(rows, np.int64)])


def test_only_the_chosen_rows_are_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "x.npz"
    save(path, False, x=np.zeros((64, 2**20), np.uint8))
    tracemalloc.start()
    rows_of(path, "x", np.array([3]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * 2**24, "the file has 64 MiB, a block 16"


@pytest.mark.parametrize("read", [mapped_array, lambda path, key: rows_of(path, key, np.arange(1))])
def test_what_is_refused(read: object, tmp_path: Path) -> None:
    assert callable(read)
    path = tmp_path / "x.npz"
    save(path, False, y=IMAGES)
    with pytest.raises(DataFileError, match=r"x\.npz has no array x; it holds y"):
        read(path, "x")
    save(path, False, x=np.array([{}], object))
    with pytest.raises(DataFileError, match="x holds pickled objects, which are never loaded"):
        read(path, "x")
    save(path, False, x=np.uint8(3))
    with pytest.raises(DataFileError, match="x is no array of rows"):
        read(path, "x")
    path.write_bytes(b"no zip")
    with pytest.raises(DataFileError, match=r"x\.npz cannot be read: File is not a zip file"):
        read(path, "x")


# -- fuzz: each mutation loads right or is refused in one line ------------------------------------------------

TRAIN = LabelledImages(IMAGES[:2], np.arange(2))
INFO = DatasetInfo("toy", 23, (3, 8, 8), (0.5,) * 3, (0.25,) * 3)


def outliers_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    wanted = build(OutlierOptions, {"generator": "npz", "path": str(path), "count": 23})
    check_outlier_files(wanted, (3, 8, 8))
    return np.sort(sample_outliers(wanted, TRAIN, 0, path.parent), 0), np.sort(IMAGES, 0)


def outliers_npy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    wanted = build(OutlierOptions, {"generator": "images300k", "path": str(path), "count": 23})
    check_outlier_files(wanted, (3, 8, 8))
    found = sample_outliers(wanted, TRAIN, 0, path.parent)
    return found[:0], IMAGES[:0]  # a plain npy file has no checksum: changed pixels pass


def unpacked(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.array(mapped_array(path, "image", path.parent)), IMAGES.transpose(0, 2, 3, 1)


def stylised(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import torch

    pictures = open_pictures(str(path), INFO, "cpu")
    return pictures.take(torch.arange(23)).numpy(), IMAGES


READERS = {
    "outliers": (outliers_npz, {"x": IMAGES, "y": np.arange(23)}),
    "images300k": (outliers_npy, {}),
    "generated": (unpacked, {"image": IMAGES.transpose(0, 2, 3, 1), "label": np.arange(23)}),
    "stylised": (stylised, {"image": IMAGES.transpose(0, 2, 3, 1), "label": np.arange(23)}),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", list(READERS))
def test_mutated_arrays_load_right_or_are_refused(kind: str, compressed: bool, tmp_path: Path) -> None:
    if kind == "generated" and not compressed:
        pytest.skip("mapped in place: no checksum is computed of gigabytes")
    read, arrays = READERS[kind]
    path = tmp_path / ("x.npz" if arrays else "x.npy")
    if arrays:
        save(path, compressed, **arrays)
    else:
        np.save(path, IMAGES.transpose(0, 2, 3, 1))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = []
    for _ in range(120):
        path.write_bytes(disk.mutated(whole, rng))
        try:
            found, want = read(path)
        except DataFileError as error:
            refused.append(str(error))
            continue
        assert found.shape == want.shape or len(found) < 23, "fewer images only if the header says so"
        if len(found) == 23:
            np.testing.assert_array_equal(found, want)
    assert len(refused) > 30
    assert all(str(path) in line and "\n" not in line for line in refused)


def claiming(path: Path, shape: tuple[int, ...], held: int) -> None:
    """Write a compressed member `x` whose header says a shape of bytes, and which holds another number of them."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(held))


@pytest.mark.parametrize("shape", [(2000,), (500,), (2**40, 2**40), (2**32, 2**32)])
def test_an_array_of_another_length_than_its_header_says_is_not_unpacked(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    claiming(tmp_path / "x.npz", shape, 1000)
    with pytest.raises(
        DataFileError, match=r"x\.npz cannot be read: x\.npy has \d+ bytes, its header says other"
    ):
        mapped_array(tmp_path / "x.npz", "x", tmp_path / "cache")
    assert not list(tmp_path.rglob("cache/unpacked/*.npy"))


def test_nothing_stays_of_an_array_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claiming(tmp_path / "x.npz", (1000,), 1000)

    def refused(*_: object) -> np.ndarray:
        raise OSError("no map")

    monkeypatch.setattr(npz_arrays, "_mapped", refused)
    with pytest.raises(DataFileError, match=r"x\.npz cannot be read: no map"):
        mapped_array(tmp_path / "x.npz", "x", tmp_path / "cache")
    assert not list(tmp_path.rglob("cache/unpacked/*.npy"))
