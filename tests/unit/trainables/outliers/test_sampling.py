"""Outliers: fitted generators and their cache, noise, and files that must be refused in one line."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.base.errors import DataFileError, InputError
from trainables.data.loading.open_dataset import load
from trainables.data.readers.outlier_files import check_outlier_files, find_npz
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.splits import Split
from trainables.options import build
from trainables.options.common import OutlierOptions
from trainables.options.outliers import OUTLIER_SOURCES, OutlierSourceSpec
from trainables.outliers import generator_cache, generators
from trainables.outliers.generator_cache import fitted_generator
from trainables.outliers.generators import VAE, PCAGaussian
from trainables.outliers.sampling import sample_outliers

COLOUR = LabelledImages(np.zeros((4, 3, 32, 32), np.uint8), np.zeros(4, np.int64))
SHAPE = (3, 32, 32)


@cache
def digits() -> LabelledImages:
    return load("digits-open").labelled(Split.TRAIN)


@pytest.fixture(autouse=True)
def short_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "steps", 100)


def options(**changes: Any) -> OutlierOptions:
    return replace(OutlierOptions(count=200), **changes)


@pytest.mark.parametrize("kind", ["pca", "vae", "uniform"])
def test_samples_repeat_and_differ_by_seed(kind: str, tmp_path: Path) -> None:
    wanted = options(generator=kind)
    fresh = sample_outliers(wanted, digits(), 0, tmp_path)
    assert (fresh.shape, fresh.dtype) == ((200, 1, 8, 8), np.float32)
    assert fresh.min() >= 0
    assert fresh.max() <= 1
    np.testing.assert_array_equal(fresh, sample_outliers(wanted, digits(), 0, tmp_path))  # from the cache
    np.testing.assert_array_equal(fresh, sample_outliers(wanted, digits(), 0, tmp_path / "other"))
    assert not np.array_equal(fresh, sample_outliers(wanted, digits(), 1, tmp_path))


def test_pca_has_the_mean_and_the_covariance_of_the_training_images(tmp_path: Path) -> None:
    train = digits()
    generator = PCAGaussian()
    generator.fit(train)
    state = generator.state()
    x = train.images.reshape(len(train), -1).astype(np.float64)
    np.testing.assert_allclose(state["mean"], x.mean(0))
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose((state["axes"] ** 2).sum(1), values[::-1][:20], rtol=1e-8)
    top = vectors[:, ::-1][:, :20]
    np.testing.assert_allclose(
        state["axes"].T @ state["axes"], top * values[::-1][:20] @ top.T, rtol=0, atol=1e-10
    )


def test_pca_latents_are_paired_across_sigma(tmp_path: Path) -> None:
    x0, x1, x2 = (
        sample_outliers(options(sigma=s), digits(), 0, tmp_path).astype(np.float64) for s in (0.0, 0.01, 0.02)
    )
    mean = digits().images.mean(0, dtype=np.float64)
    np.testing.assert_allclose(x0, np.broadcast_to(mean, x0.shape), atol=1e-6)
    inside = (x0 > 0.1) & (x0 < 0.9)  # where nothing is clipped
    np.testing.assert_allclose((x2 - x0)[inside], 2 * (x1 - x0)[inside], atol=1e-6)
    assert np.abs(x1 - x0).max() > 0.005


def test_pca_takes_few_images_and_uint8(tmp_path: Path) -> None:
    train = LabelledImages((digits().images[:5] * 255).astype(np.uint8), digits().labels[:5])
    assert sample_outliers(options(), train, 0, tmp_path).shape == (200, 1, 8, 8)


def test_pca_of_large_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    out = sample_outliers(options(count=3), LabelledImages(pixels, np.zeros(60)), 0, tmp_path)
    assert out.shape == (3, 3, 32, 32)


def test_fitting_leaves_every_global_state_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    expected = np.random.RandomState(7).random_sample()
    with torch.no_grad():
        for kind in ("pca", "vae"):
            sample_outliers(options(generator=kind), digits(), 0, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert np.random.random_sample() == expected


def test_vae_learns_what_digits_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoded mean is nearer to the mean digit than a grey image, and sigma widens the samples."""
    monkeypatch.setattr(VAE, "steps", 300)
    vae = VAE()
    vae.fit(digits())
    mean = digits().images.mean(0)
    near, prior, far = (vae.sample(300, s, np.random.default_rng(0)) for s in (0.0, 1.0, 4.0))
    assert np.abs(prior.mean(0) - mean).mean() < 0.25 * np.abs(0.5 - mean).mean()
    np.testing.assert_array_equal(near.max(0), near.min(0))
    assert near.std(0).mean() < prior.std(0).mean() < far.std(0).mean()


def test_large_images_are_fitted_on_as_many_as_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 images of 48 pixels, 480 pixels in all: 10 images, every fifth."""
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((3, 4, 4), np.uint8)
    data = LabelledImages(images, np.zeros(50, np.int64))
    monkeypatch.setattr(generators, "FIT_VALUES", 480)
    found = generators.flat_unit(data)
    assert found.shape == (10, 48)
    assert (found[:, 0] * 255).round().tolist() == list(range(0, 50, 5))


class Counting(PCAGaussian):
    fits = 0

    def fit(self, train: LabelledImages) -> None:
        Counting.fits += 1
        super().fit(train)


@pytest.fixture
def counting() -> Iterator[OutlierSourceSpec]:
    """Register a generator of one's own."""
    spec = OutlierSourceSpec(name="counting", about="counts its fits", generator=f"{__name__}:Counting")
    yield OUTLIER_SOURCES.register(spec)
    OUTLIER_SOURCES.unregister("counting")


def test_fitted_once_per_content_kind_and_version(
    counting: OutlierSourceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "fits", 0)
    wanted = options(generator=counting.name, count=5)
    first = sample_outliers(wanted, digits(), 0, tmp_path)
    np.testing.assert_array_equal(sample_outliers(wanted, digits(), 0, tmp_path), first)
    sample_outliers(replace(wanted, sigma=3.0), digits(), 1, tmp_path)
    assert Counting.fits == 1
    sample_outliers(wanted, LabelledImages(digits().images[1:], digits().labels[1:]), 0, tmp_path)
    assert Counting.fits == 2
    monkeypatch.setattr(Counting, "version", 99)
    sample_outliers(wanted, digits(), 0, tmp_path)
    assert Counting.fits == 3
    assert len(list((tmp_path / "generators").glob("*.npz"))) == 3
    assert not list((tmp_path / "generators").glob(".*.tmp"))


@pytest.mark.parametrize("damage", ["empty", "cut", "junk", "other arrays", "pickled"])
def test_a_damaged_cache_file_is_fitted_again(damage: str, tmp_path: Path) -> None:
    fitted_generator(OUTLIER_SOURCES["pca"], digits(), tmp_path)
    (path,) = (tmp_path / "generators").glob("*.npz")
    whole = path.read_bytes()
    if damage == "other arrays":
        np.savez(path, mean=np.zeros(3))
    elif damage == "pickled":
        np.savez(path, mean=np.array([{}], dtype=object), axes=np.zeros(1), shape=np.zeros(1))
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "junk": b"x" * 999}[damage])
    again = fitted_generator(OUTLIER_SOURCES["pca"], digits(), tmp_path)
    np.testing.assert_array_equal(
        again.state()["axes"],
        fitted_generator(OUTLIER_SOURCES["pca"], digits(), tmp_path / "new").state()["axes"],
    )
    assert len(path.read_bytes()) == len(whole)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(generator_cache.np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        fitted_generator(OUTLIER_SOURCES["pca"], digits(), tmp_path)
    assert [p.suffix for p in (tmp_path / "generators").iterdir()] == [".lock"]


def test_an_unknown_source_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"outlier source 'unifrm'.*uniform"):
        sample_outliers(options(generator="unifrm"), digits(), 0, tmp_path)
    with pytest.raises(InputError, match=r"generator is 'unifrm'; did you mean uniform\? known: "):
        build(OutlierOptions, {"generator": "unifrm"})


def test_a_registered_source_is_an_allowed_value(counting: OutlierSourceSpec) -> None:
    assert build(OutlierOptions, {"generator": counting.name}).source is counting


@pytest.mark.parametrize(
    "fields",
    [{}, {"generator": "a:b", "noise": "a:b"}, {"file": "a:b"}, {"noise": "a:b", "path": "the folder"}],
)
def test_a_source_spec_has_one_origin_and_files_have_a_path(fields: dict[str, str]) -> None:
    with pytest.raises(InputError, match="outlier source 'x'"):
        OutlierSourceSpec(name="x", about="", **fields)


def pixels(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *SHAPE), dtype=np.uint8)


def test_npz_folder_is_read_by_sigma(tmp_path: Path) -> None:
    x = pixels()
    np.savez(tmp_path / "samples-2.0.npz", x=x, y=np.arange(50))
    np.savez_compressed(tmp_path / "samples-10.0.npz", x=255 - x)
    wanted = options(generator="npz", path=str(tmp_path), sigma=2.0, count=20)
    check_outlier_files(wanted, SHAPE)
    out = sample_outliers(wanted, COLOUR, 0, tmp_path)
    assert (out.shape, out.dtype) == ((20, *SHAPE), np.uint8)
    rows = [int(np.flatnonzero((x == image).all(axis=(1, 2, 3)))[0]) for image in out]
    assert len(set(rows)) == 20  # without replacement
    assert rows != sorted(rows)
    everything = sample_outliers(replace(wanted, count=999), COLOUR, 0, tmp_path)
    np.testing.assert_array_equal(np.sort(everything, axis=0), np.sort(x, axis=0))
    paired = sample_outliers(replace(wanted, sigma=10.0), COLOUR, 0, tmp_path)
    np.testing.assert_array_equal(paired, 255 - out)


def test_npz_file_is_taken_whatever_sigma(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=pixels())
    wanted = options(generator="npz", path=str(path), sigma=3.3, count=7)
    assert sample_outliers(wanted, COLOUR, 0, tmp_path).shape == (7, *SHAPE)


def test_missing_sigma_lists_what_is_there(tmp_path: Path) -> None:
    for name in ("samples-10.0", "samples-2.0", "samples-1.2"):
        np.savez(tmp_path / f"{name}.npz", x=pixels(1))
    for sigma, printed in ((1.0, "1"), (1.25, "1.25"), (1.249, "1.249")):
        with pytest.raises(
            DataFileError, match=f"no file for sigma {printed}; available sigmas: 1.2, 2.0, 10.0"
        ):
            find_npz(str(tmp_path), sigma)
    assert find_npz(str(tmp_path), 0.4 + 0.8).name == "samples-1.2.npz"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFileError, match=r"it holds no samples-<sigma>\.npz"):
        find_npz(str(tmp_path / "empty"), 1.0)


def broken_npz(kind: str, path: Path) -> None:
    good = {"x": pixels(3)}
    changed: dict[str, dict[str, Any]] = {
        "key": {"images": pixels(3)},
        "dtype": {"x": pixels(3).astype(np.float32)},
        "layout": {"x": pixels(3).transpose(0, 2, 3, 1)},
        "flat": {"x": pixels(3).reshape(3, -1)},
        "none": {"x": pixels(3)[:0]},
        "labels": {"x": pixels(3), "y": np.arange(4)},
        "float labels": {"x": pixels(3), "y": np.zeros(3)},
        "pickled": {"x": np.array([None], dtype=object)},
        "pickled labels": {"x": pixels(3), "y": np.array([None] * 3, dtype=object)},
    }
    np.savez(path, **changed.get(kind, good))
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[:5000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "npy":
        with open(path, "wb") as file:
            np.save(file, pixels(3))
    elif kind == "pickle":
        path.write_bytes(b"\x80\x04]\x94.")
    elif kind == "corrupt":
        path.write_bytes(whole[:4000] + bytes(255 - b for b in whole[4000:4100]) + whole[4100:])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("key", r"needs an array x .*; it holds images$"),
        ("dtype", r"x is float32; want uint8 in 0\.\.255$"),
        ("layout", r"x is 3 x 32 x 32 x 3; this task's images need n x 3 x 32 x 32"),
        ("flat", r"x is 3 x 3072; this task's images need"),
        ("none", r"x is 0 x 3 x 32 x 32; this"),
        ("labels", r"y is int64 \(4,\); want integers \(3,\)"),
        ("float labels", r"y is float64 \(3,\); want integers"),
        ("pickled", r"x holds pickled objects, which are never loaded"),
        ("pickled labels", r"y is object \(3,\); want integers"),
        ("truncated", r"is not a whole npz file: File is not a zip file$"),
        ("empty", r"is not a whole npz file: File is not a zip file$"),
        ("npy", r"is not a whole npz file: File is not a zip file$"),
        ("pickle", r"is not a whole npz file: File is not a zip file$"),
    ],
)
def test_bad_npz_is_refused_in_one_line_before_anything_runs(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "samples-1.0.npz"
    broken_npz(kind, path)
    wanted = options(generator="npz", path=str(tmp_path))
    for refuse in (
        lambda: check_outlier_files(wanted, SHAPE),
        lambda: sample_outliers(wanted, COLOUR, 0, tmp_path),
    ):
        with pytest.raises(DataFileError, match=message) as error:
            refuse()
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)


def test_flipped_bytes_are_found_when_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    broken_npz("corrupt", path)
    with pytest.raises(DataFileError, match=r"x\.npz cannot be read: Bad CRC-32"):
        sample_outliers(options(generator="npz", path=str(path)), COLOUR, 0, tmp_path)


def test_images_must_fit_the_task(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples-1.0.npz", x=pixels(3))
    with pytest.raises(DataFileError, match="x is 3 x 3 x 32 x 32; this task's images need n x 1 x 8 x 8"):
        sample_outliers(options(generator="npz", path=str(tmp_path)), digits(), 0, tmp_path)


@pytest.mark.parametrize("kind", [spec.name for spec in OUTLIER_SOURCES if spec.file])
def test_path_must_be_given_and_exist(kind: str) -> None:
    with pytest.raises(
        InputError, match=rf"outliers\.path is empty; it must name {OUTLIER_SOURCES[kind].path}"
    ):
        check_outlier_files(options(generator=kind), SHAPE)
    with pytest.raises(InputError, match=r"outliers\.path is empty"):
        sample_outliers(options(generator=kind), COLOUR, 0, Path("/no/such"))
    with pytest.raises(DataFileError, match=r"/no/such"):
        check_outlier_files(options(generator=kind, path="/no/such"), SHAPE)


def test_images300k_reads_the_chosen_rows_as_nchw(tmp_path: Path) -> None:
    path = tmp_path / "300K_random_images.npy"
    x = pixels(40)
    np.save(path, x.transpose(0, 2, 3, 1))
    wanted = options(generator="images300k", path=str(path), count=10)
    check_outlier_files(wanted, SHAPE)
    out = sample_outliers(wanted, COLOUR, 0, tmp_path)
    assert (out.shape, out.dtype, out.flags.c_contiguous) == ((10, *SHAPE), np.uint8, True)
    rows = [int(np.flatnonzero((x == image).all(axis=(1, 2, 3)))[0]) for image in out]
    assert rows == sorted(set(rows))
    other = sample_outliers(wanted, COLOUR, 1, tmp_path)
    assert not np.array_equal(out, other)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nchw", r"the array is 3 x 3 x 32 x 32; this task's images need n x 32 x 32 x 3"),
        ("dtype", r"the array is float64; want uint8"),
        ("pickled", r"the array holds pickled objects"),
        ("truncated", r"is truncated: 5000 bytes of 9344$"),
        ("pickle", r"is not a whole npy file: the magic string is not correct"),
        ("empty", r"is not a whole npy file"),
    ],
)
def test_bad_npy_is_refused_in_one_line(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    x = pixels(3).transpose(0, 2, 3, 1)
    changed = {"nchw": pixels(3), "dtype": x / 255, "pickled": np.array([None], dtype=object)}
    np.save(path, changed.get(kind, np.ascontiguousarray(x)))
    if kind in ("truncated", "pickle", "empty"):
        content = {"truncated": path.read_bytes()[:5000], "pickle": b"\x80\x04]\x94.....", "empty": b""}
        path.write_bytes(content[kind])
    wanted = options(generator="images300k", path=str(path))
    for refuse in (
        lambda: check_outlier_files(wanted, SHAPE),
        lambda: sample_outliers(wanted, COLOUR, 0, tmp_path),
    ):
        with pytest.raises(DataFileError, match=message) as error:
            refuse()
        assert "\n" not in str(error.value)


def test_files_are_checked_without_torch() -> None:
    code = "import sys, trainables.data.readers.outlier_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
