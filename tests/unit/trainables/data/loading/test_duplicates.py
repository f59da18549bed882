"""The same image in two sets is found: as an array, as a file, saved again; and no others are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainables.data.loading import duplicates
from trainables.data.loading.duplicates import Overlap, difference_hashes, overlaps, sets_of
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import FileSource, LazyImages


def pictures(count: int, seed: int, side: int = 32) -> np.ndarray:
    """Return (count, 3, side, side) uint8: smooth random fields, as different from each other as photographs."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(2))).astype(float) for x in noise]
    stretched = [255 * (x - x.min()) / (x.max() - x.min()) for x in smooth]
    return np.stack(stretched).astype(np.uint8).transpose(0, 3, 1, 2)


def labelled(images: object) -> LabelledImages:
    return LabelledImages(images, np.zeros(len(images), np.int64))  # type: ignore[arg-type]


def folder_of(path: Path, images: np.ndarray, suffix: str = ".png", **how: int) -> LabelledImages:
    path.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(path / f"{number}{suffix}", **how)
    names = [f"{number}{suffix}" for number in range(len(images))]
    return labelled(LazyImages(FileSource(path, names), images.shape[1:]))


def test_copies_between_arrays_are_counted_with_examples() -> None:
    train, test = pictures(50, 0), pictures(20, 1)
    test[[3, 7, 8, 11]] = train[[5, 40, 40, 2]]
    (found,) = overlaps({"train": labelled(train), "test_id": labelled(test)})
    assert (found.first, found.second, found.count, found.of, found.exact) == (
        "train",
        "test_id",
        4,
        20,
        True,
    )
    assert found.examples == ("train 5 = test 3", "train 40 = test 7", "train 40 = test 8")
    assert str(found).startswith("4 of 20 images of test are in train too (train 5 = test 3")


def test_float_and_byte_images_are_compared_by_value() -> None:
    train = pictures(10, 0)
    test = (train[:3] / 255).astype(np.float32)
    (found,) = overlaps({"train": labelled(train), "test_id": labelled(test)})
    assert (found.count, found.exact) == (3, True)


def test_images_below_16_pixels_are_compared_exactly_only() -> None:
    train = pictures(10, 0, side=8)
    test = train[:4].copy()
    test[1:, 0, 0, 0] ^= 1
    (found,) = overlaps({"train": labelled(train), "test_id": labelled(test)})
    assert (found.count, found.exact) == (1, True)


@pytest.mark.parametrize(("suffix", "how"), [(".jpg", {"quality": 85}), (".webp", {"quality": 90})])
def test_pictures_that_were_saved_again_are_alike(tmp_path: Path, suffix: str, how: dict[str, int]) -> None:
    images = pictures(30, 2, side=64)
    train = folder_of(tmp_path / "train", images)
    other = pictures(30, 3, side=64)
    other[:10] = images[20:]
    test = folder_of(tmp_path / "test", other, suffix, **how)
    (found,) = overlaps({"train": train, "test_id": test})
    assert (found.count, found.of, found.exact) == (10, 30, False)
    assert found.examples[0] == f"{tmp_path}/train/20.png = {tmp_path}/test/0{suffix}"
    assert "10 of 30 images of test look like images of train too" in str(found)
    assert overlaps({"train": train, "test_id": test}, alike=False) == []


def test_files_are_compared_by_their_bytes(tmp_path: Path) -> None:
    images = pictures(12, 4, side=64)
    train = folder_of(tmp_path / "train", images)
    test = folder_of(tmp_path / "test", images[:2])
    (found,) = overlaps({"train": train, "test_id": test})
    assert (found.count, found.exact) == (2, True)


def test_different_pictures_and_flat_ones_are_no_copies() -> None:
    flat = np.repeat(np.arange(0, 250, 5, dtype=np.uint8), 3 * 32 * 32).reshape(50, 3, 32, 32)
    sets = {"train": labelled(pictures(200, 5)), "test_id": labelled(pictures(200, 6))}
    assert overlaps(sets) == []
    near = np.clip(flat.astype(int) + 1, 0, 255).astype(np.uint8)
    assert overlaps({"train": labelled(flat), "test_id": labelled(near)}) == []


def test_sets_that_are_made_of_others_are_not_compared() -> None:
    parts = load("digits-open").parts
    assert {"val_ood_near", "val_ood_far", "corrupted", "val_corrupted"} <= {split.value for split in parts}
    names = list(sets_of(parts))
    assert names[:3] == ["train", "val_id", "test_id"]
    assert not [name for name in names if "corrupted" in name or name.startswith("val_ood")]


@pytest.mark.parametrize(
    ("first", "second", "leak"),
    [
        ("train", "val_id", True),
        ("train", "test_id", True),
        ("train", "test_ood_near/s", True),
        ("val_id", "test_id", True),
        ("test_id", "test_ood_far/s", True),
        ("outliers/o.npz", "test_id", True),
        ("outliers/o.npz", "test_ood_near/s", True),
        ("outliers/o.npz", "train", False),
        ("outliers/o.npz", "val_id", False),
        ("test_ood_near/s", "test_ood_far/t", False),
    ],
)
def test_which_copies_spoil_a_test(first: str, second: str, leak: bool) -> None:
    assert Overlap(first, second, 1, 2, (), exact=True).is_leak is leak
    assert not Overlap(first, second, 1, 2, (), exact=False).is_leak


def test_of_files_no_more_is_read_than_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes 9000, 9000, 9001 and 9000, 9001: one differs in its first bytes, one in its last, one pair is equal."""
    contents = {
        "train": [b"a" * 9000, b"b" + b"x" * 8999, b"c" * 9001],
        "test": [b"a" * 8999 + b"z", b"c" * 9001, b"d" * 9000],
    }
    sets = {}
    for name, files in contents.items():
        (tmp_path / name).mkdir()
        names = [f"{number}.png" for number in range(len(files))]
        for file, content in zip(names, files, strict=True):
            (tmp_path / name / file).write_bytes(content)
        sets[name] = labelled(LazyImages(FileSource(tmp_path / name, names), (3, 8, 8)))
    read: list[str] = []
    whole = duplicates._whole
    monkeypatch.setattr(duplicates, "_whole", lambda p: read.append(f"{p.parent.name}/{p.name}") or whole(p))
    (found,) = overlaps(sets, alike=False)
    assert found.examples == (f"{tmp_path}/train/2.png = {tmp_path}/test/1.png",)
    assert (found.count, found.of) == (1, 3)
    assert sorted(read) == ["test/0.png", "test/1.png", "train/0.png", "train/2.png"]


def test_difference_hash_worked_by_hand() -> None:
    """Rows of two columns each: brighter to the right sets the bit; 16 of 8-bit halves, all set is 65535."""
    rising = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    hashes = difference_hashes(np.stack([rising, rising[:, ::-1]]))
    assert hashes.tolist() == [[65535] * 4, [0] * 4]


@pytest.mark.parametrize("name", ["digits", "digits-open"])
def test_the_built_in_digits_share_no_image(name: str) -> None:
    sets = sets_of(load(name).parts)
    assert {"train", "val_id", "test_id"} < set(sets)
    assert not any("corrupted" in key for key in sets)
    assert overlaps(sets) == []
