"""Files that are damaged, of another format or hostile: each is refused in one line that names it."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading.open_dataset import load
from trainables.data.readers.array_readers import read_cifar, read_idx, read_plain_pickle, read_svhn
from trainables.data.readers.image_readers import read, read_folder
from trainables.data.types.lazy_images import fit

pytestmark = pytest.mark.filterwarnings("ignore::trainables.data.loading.from_files.MissingDataWarning")


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
    with pytest.raises(DataFileError, match=r"not a whole mat file|needs arrays"):
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
    with pytest.raises(
        DataFileError, match=r"test has other class folders than .*train: 1 more \(class 9\)$"
    ):
        load("imagefolder", str(tmp_path))
    shutil.rmtree(tmp_path / "test" / "class 2")
    with pytest.raises(DataFileError, match=r"train: 1 more \(class 9\), 1 missing \(class 2\)$"):
        load("imagefolder", str(tmp_path))
    (tmp_path / "test" / "class 9").rename(tmp_path / "test" / "class 2")
    with pytest.raises(DataFileError, match=r"class 2 holds no picture \(\.bmp, \.gif"):
        load("imagefolder", str(tmp_path))


def test_tiny_imagenet_annotations_that_are_refused(tmp_path: Path) -> None:
    disk.tiny_imagenet(tmp_path, train=1, test=2)
    path = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    with pytest.raises(
        DataFileError, match=r"val_annotations.txt, line 1: want a picture, one of the 200 wnids"
    ):
        read("tiny-imagenet", str(tmp_path), "test", 200)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (
            b"\x89PNG\r\n",
            "is a picture of no known format, or damaged (known: BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)",
        ),
        (
            b"not a picture at all",
            "is a picture of no known format, or damaged (known: BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)",
        ),
    ],
)
def test_pictures_that_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    path = tmp_path / "train" / "class 1" / "class 1_4.png"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"class 1_4\.png {re.escape(said)}$"):
        load("imagefolder", str(tmp_path))
    path.unlink()
    (tmp_path / "train" / "class 1" / "broken.png").symlink_to("nowhere")
    with pytest.raises(DataFileError, match=r"broken\.png is a link to nowhere, which is not there"):
        load("imagefolder", str(tmp_path))


# -- fuzz -----------------------------------------------------------------------------------------------


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
    refused = []
    for _ in range(60):
        path.write_bytes(disk.mutated(whole, rng))
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
                found = fit(read_folder(path.parent).source.picture(0), (3, 8, 8))[None]
                labels = np.zeros(1, np.int64)
            assert found.dtype == np.uint8
            assert labels.dtype == np.int64
        except DataFileError as error:
            refused.append(str(error))
    assert len(refused) >= 10
    assert all(str(path.parent) in line and "\n" not in line for line in refused)
