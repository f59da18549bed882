"""Data sets from their own on-disk formats: what comes out, in which split, and what is said of a broken file."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading import from_files
from trainables.data.loading.open_dataset import fingerprint, load
from trainables.data.readers.image_readers import read
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.dataset_spec import HoldOut
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.data.types.lazy_images import fit
from trainables.data.types.splits import SEARCH_SPLITS, Split


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", from_files.MissingDataWarning)
        yield


def images(benchmark: Benchmark, split: Split, of: str = "id") -> np.ndarray:
    return np.asarray(benchmark.sets(split)[of].images)


# -- exact content -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_colour_arrays_come_out_as_they_were_written(name: str, tmp_path: Path) -> None:
    written = disk.ID_SETS[name](tmp_path)
    benchmark = load(name, str(tmp_path))
    expected = {
        tuple(row)
        for row in np.c_[
            written["train"][0].reshape(len(written["train"][0]), -1), written["train"][1]
        ].tolist()
    }
    found = []
    for split in (Split.TRAIN, Split.VAL_ID):
        data = benchmark.labelled(split)
        hwc = data.images.transpose(0, 2, 3, 1).reshape(len(data), -1)
        found += [tuple(row) for row in np.c_[hwc, data.labels].tolist()]
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    test = benchmark.labelled(Split.TEST_ID)
    assert np.array_equal(test.images, written["test"][0].transpose(0, 3, 1, 2))
    assert np.array_equal(test.labels, written["test"][1])
    assert test.images.dtype == np.uint8
    assert test.labels.dtype == np.int64


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_is_padded_to_32(name: str, tmp_path: Path) -> None:
    written = disk.ID_SETS[name](tmp_path)
    test = load(name, str(tmp_path)).labelled(Split.TEST_ID)
    assert test.images.shape == (20, 1, 32, 32)
    assert np.array_equal(test.images[:, 0, 2:30, 2:30], written["test"][0])
    assert int(test.images.sum()) == int(written["test"][0].astype(np.int64).sum())
    assert np.array_equal(test.labels, written["test"][1])


def test_cifar_validation_is_the_first_images_of_training(tmp_path: Path) -> None:
    written = disk.cifar10(tmp_path)
    benchmark = load("cifar10", str(tmp_path))
    held = benchmark.labelled(Split.VAL_ID)
    assert np.array_equal(held.images, written["train"][0][:10].transpose(0, 3, 1, 2))
    assert np.array_equal(held.labels, written["train"][1][:10])


def test_food_and_tiny_imagenet_have_every_class_where_it_belongs(tmp_path: Path) -> None:
    disk.food101(tmp_path)
    train = read("food101", str(tmp_path), "train", 101)
    at = train.source.names.tolist().index(b"dish_007/2.jpg")  # type: ignore[attr-defined]
    assert train.labels[at] == 7
    assert len(train.labels) == 303
    disk.tiny_imagenet(tmp_path)
    test = read("tiny-imagenet", str(tmp_path), "test", 200)
    # the annotations give val_0 the last wnid, val_1 the one before it
    assert test.source.names[:2].tolist() == [b"val_0.JPEG", b"val_1.JPEG"]  # type: ignore[attr-defined]
    assert test.labels[:2].tolist() == [199, 198]


def test_a_folder_that_is_the_set_itself_works_too(tmp_path: Path) -> None:
    disk.cifar10(tmp_path)
    whole = load("cifar10", str(tmp_path))
    direct = load("cifar10", str(tmp_path / "cifar-10-batches-py"))
    assert fingerprint(direct) == fingerprint(whole)


# -- splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in disk.ID_SETS if n not in ("imagenet", "food101")])
def test_every_set_is_well_formed(name: str, tmp_path: Path) -> None:
    disk.ID_SETS[name](tmp_path)
    benchmark = load(name, str(tmp_path))
    info = benchmark.info
    assert set(benchmark.parts) > SEARCH_SPLITS
    for split, sets in benchmark.parts.items():
        for of, data in sets.items():
            assert data.images.shape == (len(data.labels), *info.shape), (split, of)
            assert data.images.dtype == np.uint8
            assert data.labels.dtype == np.int64
            ood = "ood" in split.value
            assert (data.labels.min() == -1) == ood
            assert data.labels.max() < info.num_classes
    roles = DATASETS[name].roles
    assert set(benchmark.sets(Split.VAL_OOD_NEAR)) == set(roles.validation_near)
    assert set(benchmark.sets(Split.VAL_OOD_FAR)) == set(roles.validation_far)
    assert set(benchmark.for_search().parts) == SEARCH_SPLITS
    assert set(np.unique(benchmark.labelled(Split.TRAIN).labels)) == set(range(info.num_classes))


@pytest.mark.parametrize("name", ["food101", "imagenet"])
def test_large_pictures_make_a_benchmark(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_files, "IN_MEMORY_BYTES", 0)
    first = from_files._first
    monkeypatch.setattr(
        from_files, "_first", lambda data, n: first(data, 5)
    )  # made sets of 5 images are quick
    monkeypatch.setattr(from_files, "CORRUPTED_BLOCK", 2)
    disk.ID_SETS[name](tmp_path)
    benchmark = load(name, str(tmp_path), search_only=True)
    assert set(benchmark.parts) == SEARCH_SPLITS
    train = benchmark.labelled(Split.TRAIN)
    assert train.images.shape[1:] == (3, 224, 224)
    assert not isinstance(train.images, np.ndarray)
    assert set(np.unique(train.labels)) == set(range(benchmark.info.num_classes))
    assert len(set(train.labels[:50].tolist())) > 20, "a split must not come sorted by class"


def test_stratified_hold_out_by_hand() -> None:
    """60 of class 0, 30 of 1, 11 of 2; a tenth of 101 is 10: shares 5.94, 2.97, 1.09, so 6, 3 and 1."""
    labels = np.repeat([0, 1, 2], [60, 30, 11])
    rows = from_files.held_out(labels, HoldOut(), "toy")
    assert np.bincount(labels[rows]).tolist() == [6, 3, 1]
    assert np.array_equal(rows, from_files.held_out(labels, HoldOut(), "toy"))
    assert not np.array_equal(rows, from_files.held_out(labels, HoldOut(), "other"))
    assert len(from_files.held_out(labels, HoldOut(count=4), "toy")) == 4
    assert from_files.held_out(labels, HoldOut(count=4, first=True), "toy").tolist() == [0, 1, 2, 3]


def test_one_image_a_class_leaves_none_for_validation() -> None:
    with pytest.raises(DataFileError) as caught:
        from_files.held_out(np.arange(20), HoldOut(), "toy")
    assert str(caught.value) == (
        "toy: 20 training images of 20 classes, 1 in the smallest and 1 in the largest, leave none for validation; "
        "give a class 2 images at least"
    )


def test_search_only_opens_no_test_file(tmp_path: Path) -> None:
    disk.cifar10(tmp_path)
    full = load("cifar10", str(tmp_path)).for_search()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"nothing")
    assert fingerprint(load("cifar10", str(tmp_path), search_only=True)) == fingerprint(full)


def test_the_same_files_give_the_same_benchmark(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = load("imagefolder", str(tmp_path / "a")), load("imagefolder", str(tmp_path / "b"))
    assert fingerprint(a) == fingerprint(b)
    disk.picture(tmp_path / "b" / "train" / "class 0" / "class 0_0.png", seed=77)
    assert fingerprint(load("imagefolder", str(tmp_path / "b"))) != fingerprint(a)


# -- pictures ----------------------------------------------------------------------------------------------


def test_pictures_are_scaled_to_cover_and_cut_to_the_centre() -> None:
    """8 x 4 pixels in columns of 0..7: at 4 x 4 nothing is scaled and columns 2 to 5 are kept."""
    wide = Image.fromarray(np.tile(np.arange(8, dtype=np.uint8), (4, 1)))
    assert fit(wide, (1, 4, 4))[0, 0].tolist() == [2, 3, 4, 5]
    assert fit(wide, (3, 4, 4)).shape == (3, 4, 4)
    exact = disk.pixels(1, 4, 4)[0]
    assert np.array_equal(fit(Image.fromarray(exact), (3, 4, 4), crop=0.875), exact.transpose(2, 0, 1))


def test_scaling_is_torchvisions_resize_and_centre_crop() -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    big = Image.fromarray(disk.pixels(1, 60, 60)[0]).resize((320, 320), Image.Resampling.BICUBIC)
    theirs = np.asarray(Compose([Resize(256), CenterCrop(224)])(big)).transpose(2, 0, 1)
    ours = fit(big, (3, 224, 224), crop=0.875)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (
        np.abs(fit(big, (3, 32, 32)) - np.asarray(Resize(32)(big)).transpose(2, 0, 1).astype(int)).max() == 0
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_every_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    suffix = "jpg" if mode == "CMYK" else "png"
    disk.picture(tmp_path / "test" / "class 0" / f"odd.{suffix}", mode=mode)
    assert images(load("imagefolder", str(tmp_path)), Split.TEST_ID).shape == (13, 3, 64, 64)


# -- OOD ---------------------------------------------------------------------------------------------------


def test_ood_sets_take_their_roles_and_the_missing_are_named(tmp_path: Path) -> None:
    disk.cifar10(tmp_path)
    fetch = r"8 OOD test sets not in .*trainables.data.download .* dtd .* cifar100 svhn --data-dir"
    with pytest.warns(from_files.MissingDataWarning, match=fetch):
        bare = load("cifar10", str(tmp_path))
    assert set(bare.sets(Split.TEST_OOD_FAR)) == {"gaussian", "uniform"}
    assert len(bare.notes) == 1
    assert not bare.has(Split.TEST_OOD_NEAR)
    disk.odin(tmp_path)
    disk.dtd(tmp_path)
    disk.svhn(tmp_path)
    disk.cifar100(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = load("cifar10", str(tmp_path))
    sizes = {
        of: len(d) for s in full.parts for of, d in full.sets(s).items() if s.value.startswith("test_ood")
    }
    assert sizes == {
        "tiny-imagenet-crop": 5,
        "tiny-imagenet-resize": 5,
        "lsun-crop": 5,
        "lsun-resize": 5,
        "dtd": 6,
        "fooling": 2,  # the last generation only
        "gaussian": 500,
        "uniform": 500,
        "cifar100": 100,
        "svhn": 20,
    }
    assert set(full.sets(Split.TEST_OOD_OTHER)) == {"cifar100", "svhn"}


def test_food_has_its_eight_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (disk.dtd, disk.flowers102, disk.oxford_pet, disk.svhn, disk.fashion_mnist, disk.eurosat):
        write(tmp_path)
    disk.mnist(tmp_path)
    disk.cifar10(tmp_path)
    splits = from_files._named_ood(DATASETS["food101"], dataset_info("food101"), str(tmp_path))
    sizes = {of: len(data) for sets in splits.values() for of, data in sets.items()}
    assert sizes == {
        "dtd": 6, "flowers102": 4, "oxford-pet": 3,
        "svhn": 20, "fashion-mnist": 20, "eurosat": 8, "mnist": 20, "cifar10": 20,
    }  # fmt: skip
    grey = np.asarray(splits[Split.TEST_OOD_FAR]["mnist"].images)
    assert grey.shape == (20, 3, 224, 224)
    assert np.array_equal(grey[:, 0], grey[:, 2])


# -- torchvision reads the same ----------------------------------------------------------------------------


def test_readers_agree_with_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as tv

    whole = ("cifar10", "cifar100", "mnist", "svhn", "food101", "oxford-pet", "eurosat", "flowers102")
    for name, write in {
        **disk.ID_SETS,
        "p": disk.oxford_pet,
        "e": disk.eurosat,
        "f": disk.flowers102,
    }.items():
        if name in (*whole, "p", "e", "f"):
            write(tmp_path)
    # the published checksums cannot fit tiny files
    for one in (tv.CIFAR10, tv.SVHN, tv.Flowers102):
        monkeypatch.setattr(one, "_check_integrity", lambda self: True)
    monkeypatch.setattr(tv.CIFAR10, "_load_meta", lambda self: None)
    root = str(tmp_path)
    theirs = {
        ("cifar10", "train"): tv.CIFAR10(root),
        ("cifar100", "test"): tv.CIFAR100(root, train=False),
        ("mnist", "test"): tv.MNIST(root, train=False),
        ("svhn", "train"): tv.SVHN(root),
        ("food101", "test"): tv.Food101(root, split="test"),
        ("oxford-pet", "test"): tv.OxfordIIITPet(root, split="test"),
        ("eurosat", "test"): tv.EuroSAT(root),
        ("flowers102", "test"): tv.Flowers102(root, split="test"),
    }
    for (name, part), reference in theirs.items():
        ours = read(name, root, part)
        assert len(ours.source) == len(reference), name
        for row in range(0, len(reference), 7):
            # torchvision keeps the order of the list, ours is that of the classes; there is one of each
            image, label = reference[100 - row if name == "food101" else row]
            picture = ours.source.picture(row)
            expected = np.pad(np.asarray(image), 2) if name == "mnist" else np.asarray(image.convert("RGB"))
            assert np.array_equal(np.asarray(picture), expected), (name, row)
            assert int(ours.labels[row]) == int(label), (name, row)


# -- imagefolder's own size --------------------------------------------------------------------------------


def test_imagefolder_counts_its_classes_and_may_say_its_size(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    assert dataset_info("imagefolder", str(tmp_path)).num_classes == 3
    (tmp_path / "dataset.json").write_text('{"side": 16, "channels": 1, "mean": [0.4], "std": [0.2]}')
    benchmark = load("imagefolder", str(tmp_path))
    assert benchmark.info.shape == (1, 16, 16)
    assert benchmark.info.mean == (0.4,)
    assert images(benchmark, Split.TRAIN).shape == (27, 1, 16, 16)
    assert "rgb_shifted" not in benchmark.sets(Split.VAL_OOD_FAR)
    (tmp_path / "dataset.json").write_text(
        '{"side": 16}', encoding="utf-8-sig"
    )  # as Windows' Notepad saves it
    assert dataset_info("imagefolder", str(tmp_path)).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"side": 2}', ": side is 2; want a whole number from 4 to 4096"),
        ('{"side": 48.5}', ": side is 48.5; want a whole number from 4 to 4096"),
        ('{"side": true}', ": side is true; want a whole number from 4 to 4096"),
        ('{"channels": 2}', ": channels is 2; want 1 or 3"),
        (
            '{"sides": 3}',
            " has 'sides', which nothing reads; did you mean side? known: channels, mean, side, std",
        ),
        ("[1]", ' is no object of names and values; want {"side": 64}, for example'),
        ("{", " cannot be read: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"std": [0, 0, 0]}', ": std is [0, 0, 0]; want one number above 0 per channel"),
        ('{"std": [1]}', ": std is [1]; want one number above 0 per channel"),
        ('{"mean": 5}', ": mean is 5; want one number per channel"),
        ("[" * 100_000, " cannot be read: it is nested too deeply"),
        ('{"side": 32, "side": 64}', " cannot be read: it has 'side' twice; keep one"),
        ('{"mean": [0.5, NaN, 0.5]}', ": mean is [0.5, NaN, 0.5]; want one number per channel"),
    ],
)
def test_what_is_wrong_in_dataset_json_is_named(tmp_path: Path, text: str, said: str) -> None:
    disk.imagefolder(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(DataFileError) as caught:
        dataset_info("imagefolder", str(tmp_path))
    assert str(caught.value) == f"{path}{said}"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_dataset_json_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    disk.imagefolder(tmp_path)
    path = tmp_path / "dataset.json"
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(DataFileError) as caught:
        dataset_info("imagefolder", str(tmp_path))
    what = "a link to nothing" if kind == "link" else "no regular file"
    assert str(caught.value) == (
        f'{path} is {what}; want a file with {{"side": 64}}, for example, or remove it'
    )


def test_a_dataset_json_may_be_a_link(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    (tmp_path / "other.json").write_text('{"side": 16}')
    (tmp_path / "dataset.json").symlink_to(tmp_path / "other.json")
    assert dataset_info("imagefolder", str(tmp_path)).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        ({"train": "training"}, " has no train/ but ood/, test/, training/; what is read: "),
        ({"test": "Test"}, " has no test/ but Test/, ood/, train/; what is read: "),
        ({"train": "a", "test": "b", "ood": ".ood"}, " has no train/ but a/, b/; what is read: "),
    ],
)
def test_folders_of_other_names_are_answered_with_the_layout(
    tmp_path: Path, renamed: dict[str, str], said: str
) -> None:
    disk.imagefolder(tmp_path)
    for old, new in renamed.items():
        (tmp_path / old).rename(tmp_path / new)
    with pytest.raises(DataFileError) as caught:
        dataset_info("imagefolder", str(tmp_path))
    layout = f"{tmp_path}/train/<class>/ and {tmp_path}/test/<class>/ (docs/own_data.md)"
    assert str(caught.value) == f"{tmp_path}{said}{layout}"


def test_a_list_that_is_nested_without_an_end_is_told(tmp_path: Path) -> None:
    disk.food101(tmp_path)
    path = next(tmp_path.rglob("train.json"))
    path.write_text("[" * 100_000)
    with pytest.raises(DataFileError, match=r"train\.json is not a whole json file: .*recursion") as caught:
        read("food101", str(tmp_path), "train", 101)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("look", "name"),
    [(dataset_info, "imagefolder"), (check_dataset_files, "imagefolder"), (check_dataset_files, "cifar10")],
)
def test_a_folder_that_may_not_be_read_is_told(
    look: Callable[[str, str], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user: whoever may not enter it is refused whatever is in it."""
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(tmp_path) and path != tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(DataFileError, match=rf"^{tmp_path}/.* cannot be read: Permission denied$"):
        look(name, str(tmp_path))
