"""ImageNet-C: the published formulas, and the corruptions themselves where the library is installed."""

import builtins
import importlib.util
import json

import numpy as np
import pytest

from trainables.data import corruptions_imagenet as imagenet_c
from trainables.data.corrupted_files import CORRUPTIONS, corrupted_sets
from trainables.data.corruptions_imagenet import (
    ALEXNET,
    HOLD_OUT,
    NOISES,
    bake,
    baked_sets,
    corrupt,
    errors_of,
    mce,
    mean_error,
)
from trainables.data.splits import DatasetInfo
from trainables.errors import InputError


def _importable():
    if importlib.util.find_spec("imagecorruptions") is None:
        return False
    try:
        imagenet_c._library()
    except InputError:
        return False
    return True


needs_library = pytest.mark.skipif(
    not _importable(), reason="imagecorruptions cannot be imported: pip install '.[corruptions]', and libgl1"
)


def images(n=3, channels=3, side=32, seed=0):
    """Return pictures of random squares of 5 pixels."""
    cells = -(-side // 5)
    small = np.random.default_rng(seed).integers(0, 256, (n, channels, cells, cells), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(5, 2).repeat(5, 3)[:, :, :side, :side])


def test_alexnet_s_own_errors_are_100():
    assert mce(ALEXNET) == pytest.approx(100)
    assert mce({name: error / 2 for name, error in ALEXNET.items()}) == pytest.approx(50)


def test_constants_by_name():
    """Some of `get_ce_alexnet` of the benchmark's authors' code, which lists them by name."""
    published = {
        "impulse_noise": 0.922640,
        "glass_blur": 0.826268,
        "zoom_blur": 0.798360,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "pixelate": 0.717840,
    }
    assert {name: ALEXNET[name] for name in published} == published
    assert len(ALEXNET) == 15
    assert CORRUPTIONS[:3] == NOISES
    assert not set(HOLD_OUT) & set(CORRUPTIONS)


def test_mce_golden():
    """Errors of AlexNet but 0 on brightness and twice as large on fog: (13 + 0 + 2) / 15 = 1."""
    errors = {**ALEXNET, "brightness": 0.0, "fog": 2 * ALEXNET["fog"], "saturate": 0.9}
    assert mce(errors) == pytest.approx(100)
    assert mean_error(errors) == pytest.approx(
        (sum(ALEXNET.values()) - ALEXNET["brightness"] + ALEXNET["fog"]) / 15
    )


def test_mean_error_with_and_without_the_noises():
    """0.6 on the three noises, 0.1 on the twelve others: 3/15 * 0.6 + 12/15 * 0.1 = 0.2, and 0.1."""
    errors = {name: 0.6 if name in NOISES else 0.1 for name in CORRUPTIONS}
    assert mean_error(errors) == pytest.approx(0.2)
    assert mean_error(errors, noises=False) == pytest.approx(0.1)


def test_errors_are_means_over_severities():
    found = errors_of({"fog/1": 1.0, "fog/2": 0.5, "snow/1": 0.25})
    assert found == pytest.approx({"fog": 0.25, "snow": 0.75})


def test_a_mean_over_fewer_is_refused():
    some = {name: 0.5 for name in CORRUPTIONS if name not in ("fog", "snow")}
    for function in (mce, mean_error):
        with pytest.raises(InputError, match="snow, fog missing"):
            function(some)


@pytest.mark.parametrize(
    "cause", ["No module named 'imagecorruptions'", "libGL.so.1: cannot open shared object file"]
)
def test_a_missing_library_is_one_line(monkeypatch, cause):
    real = builtins.__import__

    def refuse(name, *arguments, **others):
        if name == "imagecorruptions":
            raise ImportError(cause)
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError) as caught:
        corrupt(images(), "fog", 1, 0)
    message = str(caught.value)
    assert "robust-tuner[corruptions]" in message
    assert "libgl1" in message
    assert cause in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": images(side=24)}, "too small"),
        ({"images": images().astype(np.float32)}, "uint8"),
        ({"images": images(channels=2)}, "1 or 3"),
        ({"corruption": "gausian_noise"}, "did you mean gaussian_noise"),
        ({"severity": 6}, "1 to 5"),
        ({"severity": 0}, "1 to 5"),
    ],
)
def test_wrong_input_is_refused_before_the_library_is_imported(monkeypatch, change, message):
    monkeypatch.setattr(imagenet_c, "_library", lambda: pytest.fail("imported"))
    with pytest.raises(InputError, match=message):
        corrupt(**{"images": images(), "corruption": "fog", "severity": 1, "seed": 0, **change})


@needs_library
@pytest.mark.parametrize("corruption", [*CORRUPTIONS, *HOLD_OUT])
def test_every_corruption_is_seeded_image_by_image(corruption):
    """The same image has the same result alone and in company; numpy's global stream is not moved."""
    data = images()
    np.random.seed(5)
    state = np.random.get_state()
    whole = corrupt(data, corruption, 3, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(state[1:3], np.random.get_state()[1:3], strict=True))
    assert whole.shape == data.shape
    assert whole.dtype == np.uint8
    assert (whole != data).any()
    np.random.seed(6)
    np.testing.assert_array_equal(corrupt(data[2:], corruption, 3, seed=1, first=2), whole[2:])
    grey = corrupt(images(channels=1), corruption, 1, seed=1)
    assert grey.shape == (3, 1, 32, 32)


@needs_library
@pytest.mark.parametrize("corruption", ["gaussian_noise", "glass_blur", "impulse_noise", "frost", "spatter"])
def test_another_seed_or_number_is_another_draw(corruption):
    twice = np.repeat(images(1), 2, axis=0)
    first = corrupt(twice, corruption, 3, seed=1)
    assert (first[0] != first[1]).any()
    assert (corrupt(twice, corruption, 3, seed=2) != first).any()


@needs_library
@pytest.mark.parametrize(
    "corruption", ["gaussian_noise", "shot_noise", "contrast", "jpeg_compression", "pixelate"]
)
def test_severity_makes_it_worse(corruption):
    data = images(8, side=64)
    distance = [np.abs(corrupt(data, corruption, s, seed=0).astype(float) - data).mean() for s in range(1, 6)]
    assert distance == sorted(distance)
    assert distance[0] < distance[4]


@needs_library
def test_gaussian_noise_has_the_published_strengths():
    """Standard deviations .08 .12 .18 .26 .38; on mid-grey, and for the weakest three hardly any clipping."""
    grey = np.full((4, 3, 64, 64), 128, np.uint8)
    for severity, sigma in ((1, 0.08), (2, 0.12), (3, 0.18)):
        noisy = corrupt(grey, "gaussian_noise", severity, seed=0) / 255
        assert noisy.std() == pytest.approx(sigma, rel=0.03)


CHOSEN = ("gaussian_noise", "contrast")


@needs_library
def test_baked_once_in_the_published_layout(tmp_path, monkeypatch):
    """What is on disk is what `corrupt` gives; a second call corrupts nothing; `corrupted_files` reads the folder."""
    data, labels = images(5), np.array([0, 1, 2, 1, 0])
    folder = tmp_path / "CIFAR-10-C"
    bake(data, folder, labels=labels, corruptions=CHOSEN, seed=7)
    stored = np.load(folder / "contrast.npy")
    assert stored.shape == (25, 32, 32, 3)
    np.testing.assert_array_equal(stored[10:15].transpose(0, 3, 1, 2), corrupt(data, "contrast", 3, 7))
    sets = baked_sets(folder, (3, 32, 32), labels, verify=True)
    assert set(sets) == {f"{c}/{s}" for c in CHOSEN for s in range(1, 6)}
    noisy = sets["gaussian_noise/5"]
    np.testing.assert_array_equal(np.asarray(noisy.images), corrupt(data, "gaussian_noise", 5, 7))
    np.testing.assert_array_equal(noisy.labels, labels)
    info = DatasetInfo("cifar10", 10, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    with pytest.warns(UserWarning, match="lacks"):
        published = corrupted_sets(info, str(tmp_path))
    np.testing.assert_array_equal(np.asarray(published["contrast/3"].images), corrupt(data, "contrast", 3, 7))
    monkeypatch.setattr(imagenet_c, "corrupt", lambda *a: pytest.fail("corrupted again"))
    bake(data, folder, corruptions=CHOSEN, seed=7)


@needs_library
def test_a_killed_bake_goes_on(tmp_path, monkeypatch):
    data, real = images(2), imagenet_c.corrupt

    def until_contrast(part, corruption, *others):
        if corruption == "contrast":
            raise KeyboardInterrupt
        return real(part, corruption, *others)

    monkeypatch.setattr(imagenet_c, "corrupt", until_contrast)
    with pytest.raises(KeyboardInterrupt):
        bake(data, tmp_path, corruptions=CHOSEN, severities=(1,))
    assert not list(tmp_path.glob(".writing-*"))
    assert not (tmp_path / "contrast.npy").exists()
    done = []

    def counted(part, corruption, *others):
        done.append(corruption)
        return real(part, corruption, *others)

    monkeypatch.setattr(imagenet_c, "corrupt", counted)
    bake(data, tmp_path, corruptions=CHOSEN, severities=(1,))
    assert done == ["contrast"]


@needs_library
def test_broken_files_are_found_out(tmp_path):
    data, labels = images(2), np.zeros(2, np.int64)
    settings = {"corruptions": ("contrast",), "severities": (1, 5)}
    with pytest.raises(InputError, match="nothing was baked"):
        baked_sets(tmp_path, (3, 32, 32), labels)
    bake(data, tmp_path, **settings)
    path = tmp_path / "contrast.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="truncated"):
        baked_sets(tmp_path, (3, 32, 32), labels)
    bake(data, tmp_path, **settings)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum"):
        baked_sets(tmp_path, (3, 32, 32), labels, verify=True)
    with pytest.raises(InputError, match="2 images of each kind, and there are 3 labels"):
        baked_sets(tmp_path, (3, 32, 32), np.zeros(3, np.int64))
    with pytest.raises(InputError, match="other images or settings"):
        bake(images(2, seed=1), tmp_path, **settings)
    with pytest.raises(InputError, match="other images or settings"):
        bake(data, tmp_path, seed=1, **settings)
    (tmp_path / "bake.json").write_text("{")
    bake(data, tmp_path, **settings)
    assert path.read_bytes() == whole
    assert set(json.loads((tmp_path / "bake.json").read_text())["files"]) == {"contrast"}


@needs_library
def test_grey_images_are_kept_grey(tmp_path):
    data = images(2, channels=1)
    bake(data, tmp_path, corruptions=("contrast",), severities=(2,))
    assert np.load(tmp_path / "contrast.npy").shape == (2, 32, 32)
    found = baked_sets(tmp_path, (1, 32, 32), np.zeros(2, np.int64))["contrast/2"]
    np.testing.assert_array_equal(np.asarray(found.images), corrupt(data, "contrast", 2, 0))


@needs_library
@pytest.mark.slow
def test_workers_do_not_change_the_result(tmp_path, monkeypatch):
    """600 images are three blocks of each severity; two processes give the bytes of one."""
    data = images(600)
    settings = {"corruptions": ("gaussian_noise",), "severities": (1, 2)}
    bake(data, tmp_path / "one", **settings)
    bake(data, tmp_path / "two", workers=2, **settings)
    name = "gaussian_noise.npy"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
