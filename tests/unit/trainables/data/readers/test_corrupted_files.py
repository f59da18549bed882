"""The published corrupted sets: severities are the right rows, labels fit, hold-out corruptions stay shut."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.unit import disk_formats as disk
from trainables.base.errors import DataFileError
from trainables.data.loading.from_files import MissingDataWarning
from trainables.data.loading.open_dataset import load
from trainables.data.readers.corrupted_files import CORRUPTIONS, corrupted_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import Split

CIFAR = dataset_info("cifar10")


def test_severities_are_the_rows_of_the_published_files(tmp_path: Path) -> None:
    labels = disk.cifar_c(tmp_path, "CIFAR-10-C", (*CORRUPTIONS, "speckle_noise", "saturate"), 7)
    sets = corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path))
    assert list(sets)[:6] == [*(f"gaussian_noise/{k}" for k in range(1, 6)), "shot_noise/1"]
    assert len(sets) == 75, "the hold-out corruptions of test images are not opened"
    whole = np.load(tmp_path / "CIFAR-10-C" / "fog.npy")
    for severity in range(1, 6):
        data = sets[f"fog/{severity}"]
        assert data.images.shape == (7, 3, 32, 32)
        found = np.asarray(data.images)
        assert set(found[:, 0, 0, 0]) == {severity}
        assert np.array_equal(found.transpose(0, 2, 3, 1), whole[7 * (severity - 1) : 7 * severity])
        assert np.array_equal(data.labels, labels)


def test_they_travel_as_names_not_as_pixels(tmp_path: Path) -> None:
    disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS[:1], 50)
    with pytest.warns(UserWarning, match="the mean over the others is not mCE"):
        sets = corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path))
    data = sets["gaussian_noise/3"]
    first = np.asarray(data.images)
    sent = pickle.dumps(data)
    assert len(sent) < 5_000
    assert np.array_equal(np.asarray(pickle.loads(sent).images), first)


def test_the_benchmark_carries_them(tmp_path: Path) -> None:
    disk.cifar100(tmp_path)
    disk.cifar_c(tmp_path, "CIFAR-100-C", CORRUPTIONS, 2, 100)
    with pytest.warns(MissingDataWarning):
        benchmark = load("cifar100", str(tmp_path))
    assert len(benchmark.sets(Split.CORRUPTED)) == 75
    assert not benchmark.for_search().has(Split.CORRUPTED)
    assert not load("cifar100", str(tmp_path), search_only=True).has(Split.CORRUPTED)


def test_labels_of_one_severity_will_do(tmp_path: Path) -> None:
    labels = disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS, 3)
    np.save(tmp_path / "CIFAR-10-C" / "labels.npy", labels)
    assert corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path))["snow/4"].labels.tolist() == [0, 1, 2]


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path)) == {}
    assert corrupted_sets(DATASETS["mnist"], dataset_info("mnist"), str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("fog", np.zeros((10, 32, 32, 3)), "is float64; want uint8"),
        (
            "fog",
            np.zeros((10, 3, 32, 32), np.uint8),
            "is 10 x 3 x 32 x 32; this task's images need n x 32 x 32 x 3",
        ),
        ("fog", np.zeros((9, 32, 32, 3), np.uint8), "has 9 images and labels.npy 10; want 5 severities"),
        ("fog", np.array([{}], object), "pickled objects"),
        ("labels", np.zeros(9, np.uint8), "labels.npy 9"),
        ("labels", np.full(10, 10), "runs from 10 to 10; want 0 to 9"),
        ("labels", np.zeros(10), r"must hold integers \(n,\)"),
        ("labels", np.array([{}], object), "Object arrays cannot be loaded"),
    ],
)
def test_files_that_are_refused(name: str, array: np.ndarray, reason: str, tmp_path: Path) -> None:
    disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS, 2)
    np.save(tmp_path / "CIFAR-10-C" / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(DataFileError, match=reason) as caught:
        corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path))
    assert f"{name}.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mutated_arrays_load_right_or_are_refused(tmp_path: Path) -> None:
    disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS, 1)
    rng = np.random.default_rng(3)
    refused = []
    for name in ("fog.npy", "labels.npy"):
        path = tmp_path / "CIFAR-10-C" / name
        whole = path.read_bytes()
        for _ in range(30):
            path.write_bytes(disk.mutated(whole, rng))
            try:
                data = corrupted_sets(DATASETS["cifar10"], CIFAR, str(tmp_path))["fog/5"]
                assert np.asarray(data.images).shape == (1, 3, 32, 32)
                assert 0 <= data.labels[0] < 10
            except DataFileError as error:
                refused.append(name in str(error))
        path.write_bytes(whole)
    assert len(refused) > 20
    assert all(refused)


# -- folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("", "gaussian_noise"), ("blur", "motion_blur")])
def test_tiny_imagenet_c_folders(kind: str, name: str, tmp_path: Path) -> None:
    info = dataset_info("tiny-imagenet")
    wnids = disk.wnids(200)
    for severity in range(1, 6):
        folder = tmp_path / "Tiny-ImageNet-C" / kind / name / str(severity)
        disk.tree(folder, wnids, 1, seed=severity, suffix=".JPEG", width=64, height=64)
    with pytest.warns(UserWarning, match="lacks"):
        sets = corrupted_sets(DATASETS[info.name], info, str(tmp_path), wnids)
    assert list(sets) == [f"{name}/{k}" for k in range(1, 6)]
    data = sets[f"{name}/2"]
    assert sorted(data.labels) == list(range(200))
    assert data.labels[:5].tolist() != [0, 1, 2, 3, 4], "the first images are a sample of all"
    from PIL import Image

    path = tmp_path / "Tiny-ImageNet-C" / kind / name / "2" / wnids[9] / f"{wnids[9]}_0.JPEG"
    at = int(np.flatnonzero(data.labels == 9)[0])
    # files of the task's size pass unscaled
    assert np.array_equal(data.images[at].transpose(1, 2, 0), np.asarray(Image.open(path)))
    with pytest.raises(DataFileError, match="other class folders than tiny-imagenet's train"):
        corrupted_sets(DATASETS[info.name], info, str(tmp_path), [*wnids[:-1], "n99999999"])
    (folder / wnids[0] / f"{wnids[0]}_0.JPEG").unlink()
    with pytest.raises(DataFileError, match="holds no picture"):
        corrupted_sets(DATASETS[info.name], info, str(tmp_path), wnids)
