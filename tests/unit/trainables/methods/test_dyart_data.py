"""DyART's extra data: generated images with labels from an npz file."""

import math

import numpy as np
import pytest
import torch

from tests.unit import toy
from trainables.base.errors import DataFileError
from trainables.methods.dyart import DyART, SyntheticPool
from trainables.options import build
from trainables.options.dyart import DyARTOptions


def make(**values):
    options = build(DyARTOptions, {"epochs": 1, "start": "scratch", "boundary.steps": 2, **values})
    return DyART(options, toy.context(5))


def write_npz(path, compressed=False, **changes):
    count = 40
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        "label": np.arange(count) % toy.CLASSES,
    }
    arrays |= changes
    (np.savez_compressed if compressed else np.savez)(
        path, **{k: v for k, v in arrays.items() if v is not None}
    )
    return arrays


@pytest.mark.parametrize("compressed", [False, True])
def test_synthetic_images_golden(tmp_path, compressed):
    """uint8 n x h x w x c becomes n x c x h x w in [0, 1]; the file is mapped, a compressed one once unpacked."""
    path = tmp_path / "extra.npz"
    arrays = write_npz(path, compressed)
    pool = SyntheticPool(str(path), toy.benchmark().info, str(tmp_path))
    images, labels = pool.take(np.array([3, 0, 3]), torch.device("cpu"))
    assert len(pool) == 40
    assert isinstance(pool.images, np.memmap)
    assert labels.tolist() == [3, 0, 3]
    expected = arrays["image"][[3, 0, 3]].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-7)


def test_batches_mix_real_and_synthetic_images(tmp_path):
    """Batch 20, share .7: 6 real images first, then 14 synthetic; 64 // 20 = 3 steps, as without extra data."""
    path = tmp_path / "extra.npz"
    arrays = write_npz(path)
    method = make(batch_size=20, synthetic_path=str(path))
    batches = list(method._batches())
    assert len(batches) == len(list(make(batch_size=20)._batches())) == 3
    known = {row.tobytes(): label for row, label in zip(arrays["image"], arrays["label"], strict=True)}
    for images, labels in batches:
        assert len(images) == len(labels) == 20
        codes = (images[6:] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        assert [known[code.tobytes()] for code in codes] == labels[6:].tolist()
    drawn = torch.cat([labels[6:] for _, labels in batches])
    assert drawn.unique().numel() == toy.CLASSES
    assert math.isfinite(method.train_epoch(0)["loss"])


BROKEN = [
    ({"image": None}, "has no array image; it holds label"),
    ({"image": np.zeros((40, 1, 8, 8), np.uint8)}, r"want uint8 \(n, 8, 8, 1\)"),
    ({"image": np.zeros((40, 8, 8, 1), np.float32)}, "image is float32"),
    ({"label": np.zeros(39, np.int64)}, r"want integers \(40,\)"),
    ({"label": np.zeros(40)}, "label is float64"),
    ({"label": np.full(40, toy.CLASSES)}, "toy has the classes 0 to 3"),
    ({"label": np.array([None] * 40)}, "pickle"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_malformed_file_is_one_line(tmp_path, changes, message, compressed):
    path = tmp_path / "extra.npz"
    write_npz(path, compressed, **changes)
    with pytest.raises(DataFileError, match=message) as error:
        SyntheticPool(str(path), toy.benchmark().info, str(tmp_path))
    assert "\n" not in str(error.value)
    assert "extra.npz" in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "folder"])
def test_a_damaged_or_missing_file_is_one_line(tmp_path, kind):
    path = tmp_path / "extra.npz"
    if kind == "text":
        path.write_text("not a zip file")
    elif kind == "truncated":
        write_npz(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(DataFileError, match=r"extra\.npz") as error:
        make(synthetic_path=str(path))
    assert "\n" not in str(error.value)
