"""Corrupted sets made here: labelled as such, made once, never beside published ones, and left out with a reason."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit import disk_formats as disk
from trainables.base.errors import InputError
from trainables.data.loading.open_dataset import load
from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.synthetic import corruptions_imagenet, regenerated
from trainables.data.synthetic.digits import load as load_digits
from trainables.data.synthetic.regenerated import with_corruptions
from trainables.data.types.availability import EXTRA, evaluation_sets, regenerated_count
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.lazy_images import ArraySource, LazyImages, NpySource
from trainables.data.types.splits import DatasetInfo, Origin, Split
from tuner.execution import remote_tasks

pytestmark = pytest.mark.filterwarnings("ignore::trainables.data.loading.from_files.MissingDataWarning")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Put a corruption in place of the library's, which adds the severity; return the calls."""
    calls = []

    class Stub:
        corruptions = None

        @staticmethod
        def corrupt(pixels: np.ndarray, severity: int, corruption_name: str, **_: int) -> np.ndarray:
            calls.append((corruption_name, severity))
            return (pixels // 2 + severity).astype(np.uint8)

    def small(pixels: np.ndarray, corruption: str, severity: int, *_: object) -> np.ndarray:
        return Stub.corrupt(pixels, severity, corruption)

    monkeypatch.setattr(corruptions_imagenet, "_library", lambda: Stub)
    monkeypatch.setattr(corruptions_imagenet, "corrupt_small", small)
    return calls


def toy(n: int = 3, side: int = 32, channels: int = 3) -> Benchmark:
    info = DatasetInfo("toy", 2, (channels, side, side), (0.5,) * channels, (0.25,) * channels)
    pixels = np.random.default_rng(0).integers(0, 256, (n, channels, side, side)).astype(np.uint8)
    return Benchmark(
        info, {Split.TEST_ID: {"id": LabelledImages(pixels, np.arange(n) % 2)}}, notes=("first",)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_made_of_the_clean_test_images_and_say_so(
    channels: int, library: list[tuple[str, int]], tmp_path: Path
) -> None:
    clean = toy(channels=channels)
    found = with_corruptions(clean, tmp_path, workers=1)
    assert found.corrupted is Origin.REGENERATED
    assert found.notes[0] == "first"
    assert found.notes[1] == (
        "toy: corruptions are regenerated from 3 clean test images with CIFAR-10-C's strengths; "
        "not comparable with published results"
    )
    sets = found.sets(Split.CORRUPTED)
    assert list(sets) == [f"{c}/{s}" for c in CORRUPTIONS for s in range(1, 6)]
    test = clean.labelled(Split.TEST_ID)
    for severity in (1, 5):
        data = sets[f"fog/{severity}"]
        assert np.array_equal(np.asarray(data.images), test.images // 2 + severity)
        assert np.array_equal(data.labels, test.labels)
    assert not clean.has(Split.CORRUPTED), "what was given is not changed"
    assert not found.for_search().has(Split.CORRUPTED)


def test_they_are_made_once_per_content(library: list[tuple[str, int]], tmp_path: Path) -> None:
    with_corruptions(toy(), tmp_path, workers=1)
    made = len(library)
    assert made == 15 * 5 * 3
    with_corruptions(toy(), tmp_path, workers=1)
    assert len(library) == made
    with_corruptions(toy(n=2), tmp_path, workers=1)
    assert len(library) == made + 15 * 5 * 2
    assert len(list((tmp_path / "corruptions").glob("toy-*"))) == 2


def test_only_the_first_test_images_are_taken(
    library: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (regenerated_count(32), regenerated_count(64), regenerated_count(224)) == (2000, 1000, 256)
    monkeypatch.setattr(regenerated, "regenerated_count", lambda side: 2)
    found = with_corruptions(toy(n=5), tmp_path, workers=1)
    assert len(found.sets(Split.CORRUPTED)["snow/2"]) == 2
    assert "from 2 clean test images" in found.notes[-1]


def test_small_ones_travel_as_arrays_and_large_ones_stay_on_disk(
    library: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = with_corruptions(toy(), tmp_path, workers=1).sets(Split.CORRUPTED)["fog/1"].images
    assert isinstance(small, LazyImages)
    assert isinstance(small.source, ArraySource)
    monkeypatch.setattr(regenerated, "IN_MEMORY_BYTES", 1)
    large = with_corruptions(toy(), tmp_path, workers=1).sets(Split.CORRUPTED)["fog/1"].images
    assert isinstance(large.source, NpySource)
    assert np.array_equal(np.asarray(large), np.asarray(small))
    shutil.rmtree(tmp_path / "corruptions")
    elsewhere = LazyImages(NpySource(Path(large.source.path)), large.picture_shape, np.arange(2))
    with pytest.raises(InputError, match=r"is not on this machine; the nodes of a cluster must share"):
        np.asarray(elsewhere)


def test_published_ones_are_never_joined(library: list[tuple[str, int]], tmp_path: Path) -> None:
    """Where some of the published files are there, the others are lacking, and a note says so."""
    disk.cifar10(tmp_path)
    disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS[:13], 2)
    with pytest.warns(UserWarning, match=r"lacks pixelate, jpeg_compression"):
        benchmark, notes = remote_tasks.load_tests(
            "cifar10", str(tmp_path), ("corrupted",), str(tmp_path / "cache")
        )
    assert library == []
    assert benchmark.corrupted is Origin.PUBLISHED
    assert len(benchmark.sets(Split.CORRUPTED)) == 13 * 5
    assert "CIFAR-10-C lacks pixelate, jpeg_compression" in notes[-1]


def test_a_made_folder_in_the_place_of_the_published_one_is_found_out(
    library: list[tuple[str, int]], tmp_path: Path
) -> None:
    written = disk.cifar10(tmp_path)
    images, labels = written["test"]
    made = tmp_path / "CIFAR-10-C"
    corruptions_imagenet.bake(images.transpose(0, 3, 1, 2), made, labels=labels)
    found = load("cifar10", str(tmp_path))
    assert found.corrupted is Origin.REGENERATED
    assert "this is not CIFAR-10-C and not comparable with published results" in found.notes[-1]


def test_they_are_made_only_where_a_metric_wants_them(
    library: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regenerated, "regenerated_count", lambda side: 1)
    disk.mnist(tmp_path)
    benchmark, _ = remote_tasks.load_tests("mnist", str(tmp_path), ("clean", "ood"), str(tmp_path / "cache"))
    assert not benchmark.has(Split.CORRUPTED)
    assert library == []
    monkeypatch.setattr(regenerated.os, "sched_getaffinity", lambda pid: {0})
    benchmark, notes = remote_tasks.load_tests(
        "mnist", str(tmp_path), ("corrupted",), str(tmp_path / "cache")
    )
    assert benchmark.sets(Split.CORRUPTED)["fog/1"].images.shape == (1, 1, 32, 32)
    assert notes[-1].startswith("mnist: corruptions are regenerated from 1 clean")


def test_what_cannot_be_made_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise InputError("no library; pip install it")

    monkeypatch.setattr(corruptions_imagenet, "_library", refuse)
    found = with_corruptions(toy(), tmp_path)
    assert not found.has(Split.CORRUPTED)
    assert found.corrupted is Origin.NONE
    assert found.notes[-1] == "toy: accuracy on corruptions is left out; no library; pip install it"
    tiny = with_corruptions(toy(side=24), tmp_path)
    assert tiny.notes[-1] == "toy: accuracy on corruptions is left out; they begin at 32 pixels a side"


def test_digits_have_their_own() -> None:
    digits = load_digits("digits")
    assert digits.corrupted is Origin.OWN
    assert with_corruptions(digits) is digits


# -- what the plan says beforehand --------------------------------------------------------------------------


def lines(name: str, data_dir: str, groups: tuple[str, ...] = ("ood", "corrupted")) -> dict[str, str]:
    return {sets.label: sets.text for sets in evaluation_sets(name, (3, 32, 32), data_dir, groups)}


def test_the_plan_says_what_a_data_set_is_tested_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.types.availability.find_spec", lambda name: None)
    said = lines("cifar10", str(tmp_path))
    assert said["far OOD"] == "gaussian, uniform"
    assert "near OOD" not in said
    assert said["left out"].startswith("8 OOD test sets not in")
    assert said["left out"].endswith(f"dtd lsun-crop lsun-resize fooling cifar100 svhn --data-dir {tmp_path}")
    assert (
        said["corrupted"] == f"left out: no CIFAR-10-C in {tmp_path}; {EXTRA} makes them from the test images"
    )
    monkeypatch.setattr("trainables.data.types.availability.find_spec", lambda name: object())
    said = lines("cifar10", str(tmp_path))
    assert said["corrupted"].startswith("regenerated from up to 2000 test images (no CIFAR-10-C")
    assert said["corrupted"].endswith("not comparable with published results")
    disk.odin(tmp_path)
    disk.cifar_c(tmp_path, "CIFAR-10-C", CORRUPTIONS, 1)
    said = lines("cifar10", str(tmp_path))
    assert said["near OOD"] == "tiny-imagenet-crop, tiny-imagenet-resize"
    assert said["corrupted"] == "CIFAR-10-C of the data folder"
    assert lines("cifar10", str(tmp_path), ("clean",)) == {}


def test_the_plan_knows_one_s_own_ood_sets_and_built_in_ones(tmp_path: Path) -> None:
    disk.imagefolder(tmp_path)
    said = lines("imagefolder", str(tmp_path), ("ood",))
    assert said == {"near OOD": "paintings", "far OOD": "gaussian, uniform, maps"}
    assert lines("digits", "") == {}
    assert set(lines("glyphs", "", ("ood",))) == {"near OOD", "far OOD"}
    (small,) = evaluation_sets("imagefolder", (3, 16, 16), str(tmp_path), ("corrupted",))
    assert (small.label, small.group) == ("corrupted", "corrupted")
    assert (
        small.text == "left out: none was published, and ImageNet-C's corruptions begin at 32 pixels a side"
    )
    assert small.left_out == f"imagefolder: accuracy on corruptions is {small.text}"


def test_what_cannot_be_fetched_is_said_with_its_place(tmp_path: Path) -> None:
    said = lines("imagenet", str(tmp_path), ("ood",))["left out"]
    assert "fetch with: python -m trainables.data.download dtd --data-dir" in said
    assert "ninco: put the pictures of NINCO's OOD classes into ninco/" in said


@pytest.mark.skipif(
    importlib.util.find_spec("imagecorruptions") is None, reason="needs pip install '.[corruptions]'"
)
def test_the_real_library_makes_all_75(tmp_path: Path) -> None:
    clean = toy(n=1)
    found = with_corruptions(clean, tmp_path, workers=1).sets(Split.CORRUPTED)
    assert len(found) == 75
    whole = clean.labelled(Split.TEST_ID).images
    changed = [name for name, data in found.items() if (np.asarray(data.images) != whole).any()]
    assert len(changed) == 75
