"""Data sets from their own on-disk formats: what comes out, in which split, and what is said of a broken file."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import disk_formats as disk
from trainables.data import catalog, download, real
from trainables.data.array_files import read_cifar, read_idx, read_plain_pickle, read_svhn
from trainables.data.benchmark import Benchmark
from trainables.data.files import read
from trainables.data.lazy import fit
from trainables.data.load import fingerprint, load
from trainables.data.locations import LOCATIONS, check_dataset_files, find, missing
from trainables.data.roles import ROLES
from trainables.data.splits import SEARCH_SPLITS, Split
from trainables.errors import DataFileError, InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: str) -> None:
        raise OSError("no network in tests")

    for name in download.SOURCES:
        monkeypatch.setitem(download.SOURCES, name, refuse)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", real.MissingDataWarning)
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
    assert SEARCH_SPLITS < set(benchmark.parts)
    for split, sets in benchmark.parts.items():
        for of, data in sets.items():
            assert data.images.shape == (len(data.labels), *info.shape), (split, of)
            assert data.images.dtype == np.uint8
            assert data.labels.dtype == np.int64
            ood = "ood" in split.value
            assert (data.labels.min() == -1) == ood
            assert data.labels.max() < info.num_classes
    assert set(benchmark.sets(Split.VAL_OOD)) == set(ROLES[name].validation)
    assert set(benchmark.for_search().parts) == SEARCH_SPLITS
    assert set(np.unique(benchmark.labelled(Split.TRAIN).labels)) == set(range(info.num_classes))


@pytest.mark.parametrize("name", ["food101", "imagenet"])
def test_large_pictures_make_a_benchmark(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "IN_MEMORY_BYTES", 0)
    first = real._first
    monkeypatch.setattr(real, "_first", lambda data, n: first(data, 5))  # made sets of 5 images are quick
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
    rows = real.held_out(labels, real._Rule(), "toy")
    assert np.bincount(labels[rows]).tolist() == [6, 3, 1]
    assert np.array_equal(rows, real.held_out(labels, real._Rule(), "toy"))
    assert not np.array_equal(rows, real.held_out(labels, real._Rule(), "other"))
    assert len(real.held_out(labels, real._Rule(count=4), "toy")) == 4
    assert real.held_out(labels, real._Rule(count=4, first=True), "toy").tolist() == [0, 1, 2, 3]
    lonely = real.held_out(np.arange(20), real._Rule(), "toy")
    assert len(lonely) == 0, "a class of one image stays in training"


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
    with pytest.warns(real.MissingDataWarning, match=r"8 OOD test sets.*dtd/dtd/.*cifar-100-python/"):
        bare = load("cifar10", str(tmp_path))
    assert set(bare.sets(Split.TEST_OOD_FAR)) == {"gaussian", "uniform"}
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
    splits = real._ood_splits(catalog.get("food101"), str(tmp_path), 1.0)
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


# -- what is missing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(disk.ID_SETS))
def test_what_is_missing_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as caught:
        load(name, str(tmp_path))
    line = str(caught.value)
    assert "\n" not in line
    assert LOCATIONS[name].put in line
    assert str(tmp_path) in line
    if name in download.SOURCES:
        assert line.endswith("the download failed: no network in tests")
    assert not [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]


def test_preflight_knows_what_can_be_downloaded(tmp_path: Path) -> None:
    assert "170 MB will be downloaded" in check_dataset_files("cifar10", str(tmp_path))
    with pytest.raises(DataFileError, match=r"^imagenet: train, val not found in .*; put train/<wnid>"):
        check_dataset_files("imagenet", str(tmp_path))
    with pytest.raises(DataFileError, match="mnist needs a data folder"):
        check_dataset_files("mnist", "")
    with pytest.raises(DataFileError, match="s3://bucket/x is not a local"):
        check_dataset_files("mnist", "s3://bucket/x")
    with pytest.raises(InputError, match="did you mean cifar10"):
        check_dataset_files("cifar01", str(tmp_path))
    disk.cifar10(tmp_path)
    assert check_dataset_files("cifar10", str(tmp_path)) == ""
    assert check_dataset_files("glyphs", "") == check_dataset_files("digits", "") == ""
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    assert missing("cifar10", str(tmp_path)).startswith("cifar10: data_batch_3 not found in")


def test_preflight_is_light() -> None:
    code = (
        "import sys; from trainables.data.locations import check_dataset_files; import trainables.data.roles\n"
        "check_dataset_files('glyphs', '')\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# -- download ----------------------------------------------------------------------------------------------


def test_concurrent_processes_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(root: str) -> None:
        calls.append(root)
        time.sleep(0.2)
        disk.mnist(Path(root))

    monkeypatch.setitem(download.SOURCES, "mnist", fetch)
    threads = [threading.Thread(target=download.ensure, args=("mnist", str(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(load("mnist", str(tmp_path)).labelled(Split.TEST_ID)) == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mnist.lock", "MNIST"]


def test_a_broken_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: str) -> None:
        disk.mnist(Path(root))
        raise RuntimeError("File not found or corrupted.\nmore")

    monkeypatch.setitem(download.SOURCES, "mnist", fetch)
    with pytest.raises(DataFileError, match=r"the download failed: File not found or corrupted\.$"):
        load("mnist", str(tmp_path))
    assert find("mnist", str(tmp_path), "train") is None


def test_a_download_fills_a_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    (tmp_path / "cifar-10-batches-py" / "mine.txt").write_text("kept")
    monkeypatch.setitem(download.SOURCES, "cifar10", lambda root: disk.cifar10(Path(root)) and None)
    download.ensure("cifar10", str(tmp_path))
    assert missing("cifar10", str(tmp_path)) == ""
    assert (tmp_path / "cifar-10-batches-py" / "mine.txt").read_text() == "kept"


def test_download_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(download.SOURCES, "mnist", lambda root: disk.mnist(Path(root)) and None)
    assert download.main(["mnist", "--data-dir", str(tmp_path)]) == 0
    assert download.main(["minst", "--data-dir", str(tmp_path)]) == 2
    assert download.main(["ninco", "--data-dir", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == f"mnist is in {tmp_path}\n"
    assert "did you mean mnist" in err
    assert "put the pictures of NINCO's OOD classes into ninco/" in err


def test_every_download_has_a_place() -> None:
    assert set(download.SOURCES) <= set(LOCATIONS)
    assert {n for n, place in LOCATIONS.items() if place.download} == set(download.SOURCES)


# -- broken files ------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"data": Evil()}), r"names (posix|nt).system, which is never loaded"),
        (pickle.dumps({"data": np.array([Evil()], object)}), "never loaded"),
        (pickle.dumps([1, 2]), "it holds no dict"),
        (pickle.dumps({b"labels": [1]}), r"data is missing; want a uint8 array n x 3072"),
        (pickle.dumps({b"data": np.zeros((2, 3072))}), "an array that is not uint8"),
        (pickle.dumps({b"data": np.zeros((2, 3000), np.uint8)}), r"data is uint8 2 x 3000"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
            r"labels is int64 1; want integers",
        ),
        (
            pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}),
            "labels runs from 10 to 10",
        ),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["a"]}), "labels is <U1"),
        (b"", "is not a whole file"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "a memo larger than the file"),
        (b"\x80\x02}q\x00\x85\x81.", "pickle opcode NEWOBJ is not allowed"),
    ],
)
def test_cifar_batches_that_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DataFileError, match=reason) as caught:
        read_cifar(tmp_path, ("batch",), "labels", 10)
    assert str(caught.value).startswith(str(tmp_path / "batch"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_cifar_batches_of_every_pickle_protocol(protocol: int, tmp_path: Path) -> None:
    pictures = disk.pixels(3, 32, 32)
    disk.cifar_batch(tmp_path / "batch", pictures, [3, 1, 2], "labels", protocol)
    found, labels = read_cifar(tmp_path, ("batch",), "labels", 10)
    assert np.array_equal(found, pictures)
    assert labels.tolist() == [3, 1, 2]


def test_a_pickle_as_python_2_wrote_it(tmp_path: Path) -> None:
    """The published batches are protocol 2 of Python 2: byte strings as str, no _codecs."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01bq\x05\x87Rq\x06"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x07U\x02u1q\x08K\x00K\x01\x87Rq\x09"
        b"(K\x03U\x01|q\x0aNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\xfd\xfe\xfftb"
    )
    (tmp_path / "batch").write_bytes(
        b"\x80\x02}q\x01(U\x04dataq\x02" + array + b"U\x06labels]q\x0b(K\x07K\x08eu."
    )
    found = read_plain_pickle(tmp_path / "batch")
    assert found["data"].tolist() == [[0, 1, 2], [253, 254, 255]]
    assert found["labels"] == [7, 8]


def broken_idx(tmp_path: Path, content: bytes) -> None:
    disk.mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(content)
    read_idx(tmp_path / "MNIST" / "raw", "t10k")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin as an idx file"),
        (b"\0\0\x0d\3" + b"\0" * 12, "does not begin as an idx file"),
        (b"\0\0\x08\3\0\0\0\x02\0\0\0\x1c\0\0\0\x1c" + b"x" * 100, "says 1568 bytes, it has 100"),
        (b"\0\0\x08\3\0\0\0\x01\0\0\0\x02\0\0\0\x02" + b"x" * 5, "says 4 bytes, it has more"),
        (b"\0\0\x08\3\0\0\0\x01\0\0\0\x02\0\0\0\x02" + b"x" * 4, "images are 1 x 2 x 2; want n x 28 x 28"),
        (b"\0\0\x08\3" + b"\xff" * 12, "its header says 79228162458924105385300197375 bytes"),
    ],
)
def test_idx_files_that_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=reason):
        broken_idx(tmp_path, content)


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    disk.mnist(tmp_path)
    disk.idx(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", np.zeros(19))
    with pytest.raises(DataFileError, match=r"labels-idx1-ubyte: labels is uint8 19; want integers \(20,\)"):
        load("mnist", str(tmp_path))


def test_svhn_files_that_are_refused(tmp_path: Path) -> None:
    from scipy.io import savemat

    path = tmp_path / "x.mat"
    for content, reason in (
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "needs arrays X and y; it holds X"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": [1, 2]}, r"X is float64 32 x 32 x 3 x 2; want uint8"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [1, 11]}, "y runs from 1 to 11"),
    ):
        savemat(path, content)
        with pytest.raises(DataFileError, match=reason):
            read_svhn(path)
    path.write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 300)
    with pytest.raises(DataFileError, match="not a whole mat file|needs arrays"):
        read_svhn(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a whole json file"),
        ("[1]", "not a whole json file"),
        ('{"a": [1]}', r"want \{class: \[names"),
        ('{"a": ["../../etc/passwd"]}', "outside its folder"),
        ('{"a": ["/etc/passwd"]}', "outside its folder"),
        ('{"a": ["a/0"]}', "lists 1 classes; want 101"),
        ('{"a": []}', r"want \{class"),
    ],
)
def test_food_lists_that_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    (base / "images").mkdir()
    (base / "meta" / "train.json").write_text(content)
    with pytest.raises(DataFileError, match=reason):
        read("food101", str(tmp_path), "train", 0 if "outside" in reason else 101)


def test_class_folders_that_are_refused(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    (tmp_path / "test" / "class 9").mkdir()
    with pytest.raises(DataFileError, match="has 4 class folders; want 3"):
        load("imagefolder", str(tmp_path))
    shutil.rmtree(tmp_path / "test" / "class 2")
    with pytest.raises(DataFileError, match="holds no picture"):
        load("imagefolder", str(tmp_path))
    disk.picture(tmp_path / "test" / "class 9" / "a.png")
    with pytest.raises(DataFileError, match="has other class folders than"):
        load("imagefolder", str(tmp_path))


def test_tiny_imagenet_annotations_that_are_refused(tmp_path: Path) -> None:
    disk.tiny_imagenet(tmp_path, train=1, test=2)
    path = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    with pytest.raises(
        DataFileError, match=r"val_annotations.txt, line 1: want a picture, one of the 200 wnids"
    ):
        read("tiny-imagenet", str(tmp_path), "test", 200)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"not a picture at all"])
def test_pictures_that_are_refused(content: bytes, tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    path = tmp_path / "train" / "class 1" / "class 1_4.png"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="class 1_4.png is not a whole picture"):
        load("imagefolder", str(tmp_path))
    path.unlink()
    (tmp_path / "train" / "class 1" / "broken.png").symlink_to("nowhere")
    with pytest.raises(DataFileError, match="broken.png is missing; unpack the archive again"):
        load("imagefolder", str(tmp_path))


# -- imagefolder's own size --------------------------------------------------------------------------------


def test_imagefolder_counts_its_classes_and_may_say_its_size(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    assert catalog.get("imagefolder", str(tmp_path)).num_classes == 3
    (tmp_path / "dataset.json").write_text('{"side": 16, "channels": 1, "mean": [0.4], "std": [0.2]}')
    benchmark = load("imagefolder", str(tmp_path))
    assert benchmark.info.shape == (1, 16, 16)
    assert benchmark.info.mean == (0.4,)
    assert images(benchmark, Split.TRAIN).shape == (27, 1, 16, 16)
    assert "rgb_shifted" not in benchmark.sets(Split.VAL_OOD)
    for bad in (
        '{"side": 2}',
        '{"channels": 2}',
        '{"sides": 3}',
        "[1]",
        "{",
        '{"std": [0, 0, 0]}',
        '{"mean": 5}',
    ):
        (tmp_path / "dataset.json").write_text(bad)
        with pytest.raises(DataFileError, match=r"dataset\.json"):
            catalog.get("imagefolder", str(tmp_path))


# -- fuzz --------------------------------------------------------------------------------------------------


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data cut short, with bytes changed, doubled or left out."""
    kind = rng.integers(4)
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 20))
    if kind == 0:
        return data[:at]
    if kind == 1:
        out = bytearray(data)
        # headers are where it hurts: half of the changes are in the first or last 200 bytes
        for place in rng.integers(0, len(data), 3) if rng.random() < 0.5 else rng.integers(-200, 200, 3):
            out[int(place) % len(data)] = int(rng.integers(256))
        return bytes(out)
    if kind == 2:
        return data[:at] + data[at : at + length] + data[at:]
    return data[:at] + data[at + length :]


@pytest.mark.parametrize("kind", ["cifar", "cifar5", "idx", "idx.gz", "mat", "png", "jpg"])
def test_mutated_files_load_right_or_say_why_not(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    if kind.startswith("cifar"):
        path = tmp_path / "batch"
        disk.cifar_batch(path, disk.pixels(2, 32, 32) // 128, [1, 2], "labels", 5 if kind == "cifar5" else 2)
    elif kind.startswith("idx"):
        disk.mnist(tmp_path, test=4, suffix=".gz" if kind.endswith("gz") else "")
        path = tmp_path / "MNIST" / "raw" / f"t10k-images-idx3-ubyte{'.gz' if kind.endswith('gz') else ''}"
    elif kind == "mat":
        disk.svhn(tmp_path, test=4)
        path = tmp_path / "test_32x32.mat"
    else:
        path = tmp_path / "ood" / "far" / "one" / f"x.{kind}"
        disk.picture(path)
    whole = path.read_bytes()
    outcomes = {"right": 0, "refused": 0}
    for _ in range(60):
        path.write_bytes(mutated(whole, rng))
        try:
            if kind.startswith("cifar"):
                found, labels = read_cifar(tmp_path, ("batch",), "labels", 10)
                assert found.shape == (len(labels), 32, 32, 3)
            elif kind.startswith("idx"):
                found, labels = read_idx(path.parent, "t10k")
                assert found.shape == (4, 28, 28)
            elif kind == "mat":
                found, labels = read_svhn(path)
                assert found.shape == (len(labels), 32, 32, 3)
            else:
                from trainables.data.files import read_folder

                found = fit(read_folder(path.parent).source.picture(0), (3, 8, 8))[None]
                labels = np.zeros(1, np.int64)
            assert found.dtype == np.uint8
            assert labels.dtype == np.int64
            outcomes["right"] += 1
        except DataFileError as error:
            assert str(path.parent) in str(error)
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] >= 10, outcomes
