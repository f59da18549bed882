"""ImageNet-C's corruptions, where the library is installed: seeds, the published strengths, baked files."""

import builtins
import importlib.util
import io
import json

import numpy as np
import pytest
from PIL import Image

from trainables.base.errors import InputError
from trainables.data.readers.corrupted_files import CORRUPTIONS, corrupted_sets
from trainables.data.synthetic import corruptions_imagenet as imagenet_c
from trainables.data.synthetic.corruptions_imagenet import HOLD_OUT, bake, baked_sets, corrupt
from trainables.data.synthetic.hold_out_corruptions import hold_out_corruptions
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import DatasetInfo


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


@pytest.mark.slow
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
    large = images(1, side=64)
    assert (corrupt(large, corruption, 1, seed=1) != large).any()
    grey = corrupt(images(channels=1), corruption, 1, seed=1)
    assert grey.shape == (3, 1, 32, 32)


@needs_library
@pytest.mark.parametrize("corruption", ["gaussian_noise", "snow", "impulse_noise", "frost", "spatter"])
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


# -- the published table ------------------------------------------------------------------------------------

GREY = np.full((4, 3, 64, 64), 128, np.uint8)  # 128 / 255 = 0.502


@needs_library
@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.08), (2, 0.12), (3, 0.18)])
def test_gaussian_noise_has_the_published_strengths(severity, sigma):
    """The two strongest, .26 and .38, are clipped; what is left of them is computed below."""
    noisy = corrupt(GREY, "gaussian_noise", severity, seed=0) / 255
    assert noisy.std() == pytest.approx(sigma, rel=0.03)


@needs_library
@pytest.mark.parametrize(("severity", "sigma"), [(4, 0.26), (5, 0.38)])
def test_strong_gaussian_noise_is_clipped_where_it_should_be(severity, sigma):
    """The share of black pixels is that of N(0.502, sigma) below 1/255: values are cut to whole grey levels."""
    from scipy.stats import norm

    noisy = corrupt(GREY, "gaussian_noise", severity, seed=0)
    assert (noisy == 0).mean() == pytest.approx(norm.cdf(1 / 255, 128 / 255, sigma), abs=0.01)


@needs_library
@pytest.mark.parametrize(("severity", "photons"), [(1, 60), (2, 25), (3, 12), (4, 5), (5, 3)])
def test_shot_noise_counts_the_published_photons(severity, photons):
    """Values are whole photons over their number, clipped at 1; none at all is black: exp(-0.502 photons)."""
    noisy = corrupt(GREY, "shot_noise", severity, seed=0)
    levels = {int(min(k / photons, 1) * 255) for k in range(10 * photons)}
    assert set(np.unique(noisy)) <= levels
    assert (noisy == 0).mean() == pytest.approx(np.exp(-photons * 128 / 255), abs=0.01)


@needs_library
@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (2, 0.06), (3, 0.09), (4, 0.17), (5, 0.27)])
def test_impulse_noise_hits_the_published_share(severity, share):
    noisy = corrupt(GREY, "impulse_noise", severity, seed=0)
    assert (noisy == 0).mean() == pytest.approx(share / 2, abs=0.006)
    assert (noisy == 255).mean() == pytest.approx(share / 2, abs=0.006)


@needs_library
@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.15), (2, 0.2), (3, 0.35)])
def test_speckle_noise_has_the_published_strengths(severity, sigma):
    dark = np.full((4, 3, 64, 64), 64, np.uint8)
    noisy = corrupt(dark, "speckle_noise", severity, seed=0)
    assert noisy.std() == pytest.approx(64 * sigma, rel=0.03)


@needs_library
@pytest.mark.parametrize(("severity", "factor"), [(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1), (5, 0.05)])
def test_contrast_is_the_published_factor_around_each_channel_s_mean(severity, factor):
    data = images(2, side=64)
    means = data.mean((2, 3), keepdims=True)
    want = (data - means) * factor + means
    assert np.abs(corrupt(data, "contrast", severity, 0) - want).max() <= 1


@needs_library
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_brightness_is_a_tenth_of_value_for_each_severity(severity):
    data = images(2, side=64)
    want = np.clip(data.max(1) / 255 + severity / 10, 0, 1)
    assert np.abs(corrupt(data, "brightness", severity, 0).max(1) / 255 - want).max() <= 1.01 / 255


@needs_library
@pytest.mark.parametrize(("severity", "quality"), [(1, 25), (2, 18), (3, 15), (4, 10), (5, 7)])
def test_jpeg_is_pillow_s_at_the_published_quality(severity, quality):
    data = images(1, side=64)
    buffer = io.BytesIO()
    Image.fromarray(data[0].transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
    want = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    np.testing.assert_array_equal(corrupt(data, "jpeg_compression", severity, 0)[0], want)


@needs_library
@pytest.mark.parametrize(("severity", "share"), [(1, 0.6), (2, 0.5), (3, 0.4), (4, 0.3), (5, 0.25)])
def test_pixelate_keeps_the_published_share_of_the_side(severity, share):
    data = images(1, side=64)
    small = Image.fromarray(data[0].transpose(1, 2, 0)).resize((int(64 * share),) * 2, Image.Resampling.BOX)
    want = np.asarray(small.resize((64, 64), Image.Resampling.NEAREST)).transpose(2, 0, 1)
    np.testing.assert_array_equal(corrupt(data, "pixelate", severity, 0)[0], want)


@needs_library
@pytest.mark.parametrize(("severity", "sigma"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)])
def test_gaussian_blur_is_scipy_s_at_the_published_width(severity, sigma):
    from scipy import ndimage

    data = images(1, side=64)
    want = ndimage.gaussian_filter(data[0] / 255, (0, sigma, sigma), mode="nearest", truncate=4.0) * 255
    assert np.abs(corrupt(data, "gaussian_blur", severity, 0)[0] - want).max() <= 1.01


@needs_library
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_saturate_has_the_published_factors_and_is_that_of_the_hold_out_set(severity):
    data = images(2, side=72)
    ours = hold_out_corruptions("x", LabelledImages(data, np.zeros(2, np.int64)))[f"saturate/{severity}"]
    theirs = corrupt(data, "saturate", severity, 0)
    assert np.abs(ours.images.astype(int) - theirs).max() <= 1


@needs_library
@pytest.mark.parametrize(("severity", "radius"), [(1, 3), (2, 4), (3, 6), (4, 8), (5, 10)])
def test_defocus_spreads_a_point_over_the_published_disk(severity, radius):
    """A white pixel on black becomes a disk: its width is twice the radius and one, give or take the soft rim."""
    point = np.zeros((1, 3, 64, 64), np.uint8)
    point[:, :, 24:40, 24:40] = 255  # 16 wide, so that the disk's grey levels are not rounded to black
    lit = (corrupt(point, "defocus_blur", severity, 0)[0, 0] > 0).any(0).sum()
    assert abs(lit - (16 + 2 * radius)) <= 2


#: The remaining rows of ImageNet-C's table (Hendrycks and Dietterich 2019, its make_imagenet_c.py).
RANDOM_FIELDS = {
    "glass_blur": [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    "motion_blur": [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    "zoom_blur": [
        np.arange(1, most, step)
        for most, step in ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    ],
    "snow": [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ],
    "frost": [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    "fog": [(1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)],
    "spatter": [
        (0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1),
    ],
}  # fmt: skip


@needs_library
@pytest.mark.parametrize("corruption", RANDOM_FIELDS)
def test_what_draws_random_fields_has_the_published_parameters(corruption):
    """Their effect has no closed form: the parameters are read from the library's own code."""
    import ast
    import inspect

    from imagecorruptions import corruptions as library

    tree = ast.parse(inspect.getsource(getattr(library, corruption)))
    lists = [node.value.value for node in ast.walk(tree) if _is_table(node)]
    assert len(lists) == 1
    found = eval(compile(ast.Expression(lists[0]), corruption, "eval"), {"np": np})
    assert len(found) == 5
    for own, published in zip(found, RANDOM_FIELDS[corruption], strict=True):
        np.testing.assert_allclose(own, published, rtol=1e-12)


def _is_table(node):
    """Whether it is `c = [...][severity - 1]`."""
    import ast

    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "c"
        and isinstance(node.value, ast.Subscript)
        and isinstance(node.value.value, ast.List)
    )


@needs_library
def test_elastic_is_the_library_s_and_not_the_published_one():
    """The published displacements are for 224 pixels; the library's grow with the image (docs/protocol.md)."""
    import inspect

    from imagecorruptions import corruptions as library

    text = inspect.getsource(library.elastic_transform)
    assert "[250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12]" in text


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
        published = corrupted_sets(DATASETS["cifar10"], info, str(tmp_path))
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
    assert not list(tmp_path.glob(".*.tmp"))
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
