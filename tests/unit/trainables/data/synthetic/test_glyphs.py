"""The procedural benchmark: deterministic, balanced, cached, learnable, and OOD is what it says."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from trainables.data.loading.open_dataset import fingerprint
from trainables.data.synthetic import glyph_images, glyphs
from trainables.data.synthetic.glyph_images import draw
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import SEARCH_SPLITS, Split

SMALL = glyphs.Sizes(train=1000, test=200, ood=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> Benchmark:
    return glyphs.build(str(folder), SMALL)


@cache
def letters(count: int = 500, key: str = "x") -> tuple[np.ndarray, np.ndarray]:
    return draw("AT", count, key)


def test_it_has_every_role(benchmark: Benchmark) -> None:
    roles = DATASETS["glyphs"].roles
    assert roles is not None
    assert set(benchmark.sets(Split.TEST_OOD_NEAR)) == set(roles.near)
    assert set(benchmark.sets(Split.TEST_OOD_FAR)) == set(roles.far)
    assert set(benchmark.sets(Split.VAL_OOD_NEAR)) == set(roles.validation_near)
    assert set(benchmark.sets(Split.VAL_OOD_FAR)) == set(roles.validation_far)
    assert len(benchmark.sets(Split.VAL_CORRUPTED)) == 20
    sizes = [len(benchmark.labelled(s)) for s in (Split.TRAIN, Split.VAL_ID, Split.TEST_ID)]
    assert sizes == [900, 100, 200]
    for split, sets in benchmark.parts.items():
        for data in sets.values():
            assert data.images.shape == (len(data), 3, 32, 32)
            assert data.images.dtype == np.uint8
            assert (data.labels.min() < 0) == ("ood" in split.value)


def test_unseen_characters_are_unseen() -> None:
    assert len(glyphs.LETTERS) == dataset_info("glyphs").num_classes == len(set(glyphs.LETTERS))
    assert not set(glyphs.LETTERS) & set("".join(glyphs.UNSEEN.values()))
    assert set(glyphs.UNSEEN) == {"letters", "numerals", "textures"}


def test_full_sizes_are_cifars() -> None:
    assert (glyphs.Sizes().train, glyphs.Sizes().test) == (50_000, 10_000)


def test_the_beginning_of_a_large_set_is_the_small_set() -> None:
    images, labels = letters(500)
    few, few_labels = draw("AT", 30, "x")
    assert np.array_equal(images[:30], few)
    assert np.array_equal(labels[:30], few_labels)
    other, _ = draw("AT", 30, "y")
    assert not np.array_equal(few, other)


def test_every_block_is_balanced() -> None:
    _, labels = draw("ABC", 501, "z")
    assert np.bincount(labels[:500]).tolist() == [167, 167, 166]
    assert labels.dtype == np.int64


def test_catalogue_has_mean_and_std(benchmark: Benchmark) -> None:
    info = dataset_info("glyphs")
    unit = benchmark.labelled(Split.TRAIN).images / 255.0
    assert unit.mean(axis=(0, 2, 3)) == pytest.approx(info.mean, abs=0.02)
    assert unit.std(axis=(0, 2, 3)) == pytest.approx(info.std, abs=0.02)


def test_every_font_has_every_character() -> None:
    for font in glyph_images.FONTS:
        drawn = {
            c: glyph_images._master(font, c).tobytes()
            for c in glyphs.LETTERS + "".join(glyphs.UNSEEN.values())
        }
        assert len(set(drawn.values())) == len(drawn), (
            f"{font} draws two characters alike (a box for missing?)"
        )


def test_ink_stands_out_from_the_background() -> None:
    rng = glyph_images.Random(0)
    behind, front = glyph_images._colours(rng, 5000)
    gap = np.abs(((front - behind)[:, :, 0, 0]) @ [0.299, 0.587, 0.114])
    assert gap.min() > 0.2499
    assert front.min() >= 0
    assert front.max() <= 1


def test_the_character_is_in_the_image() -> None:
    """Over many images the ink covers the middle, and its mask is empty in the corners most of the time."""
    rng = glyph_images.Random(1)
    masks = glyph_images._masks("ATBH", np.arange(400) % 4, rng)
    assert masks.shape == (400, 32, 32)
    assert masks.min() >= 0
    assert masks.max() <= 1
    ink = masks.mean(axis=(1, 2))
    assert ink.min() > 0.02
    assert ink.max() < 0.6
    assert masks[:, 8:24, 8:24].mean() > 4 * masks[:, :3, :3].mean()


def test_textures_fill_their_range() -> None:
    fields = glyph_images._textures(glyph_images.Random(2), 300)
    assert fields.shape == (300, 32, 32)
    assert fields.min() >= -1e-9
    assert fields.max() <= 1 + 1e-9
    assert np.allclose(glyph_images._spread(5).sum(1), 1)


def test_the_cache_is_used_and_a_damaged_file_is_drawn_again(
    folder: Path, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(benchmark)

    def refuse(*_: object) -> None:
        raise AssertionError("the cache was not used")

    with monkeypatch.context() as patch:
        patch.setattr(glyphs, "draw", refuse)
        again = glyphs.build(str(folder), SMALL)
    assert fingerprint(again) == before
    assert isinstance(again.labelled(Split.TRAIN).images, np.memmap)
    (path,) = folder.glob("glyphs/letters-*/images.npy")
    path.write_bytes(path.read_bytes()[:5000])
    assert fingerprint(glyphs.build(str(folder), SMALL)) == before


def test_search_only_draws_no_test_set(tmp_path: Path) -> None:
    found = glyphs.build(str(tmp_path), glyphs.Sizes(100, 100, 100), search_only=True)
    assert set(found.parts) == SEARCH_SPLITS
    assert {p.name.split("-")[0] for p in (tmp_path / "glyphs").iterdir()} == {"train"}


def test_a_seed_is_another_benchmark(tmp_path: Path) -> None:
    one, two = (
        glyphs.build(str(tmp_path), glyphs.Sizes(50, 10, 10), seed, search_only=True) for seed in (0, 1)
    )
    assert fingerprint(one) != fingerprint(two)


def test_it_can_be_learned_but_not_from_colours(benchmark: Benchmark) -> None:
    """Edges in blocks tell the letters apart far above chance, mean colours do not: the texture gives nothing away."""
    from sklearn.linear_model import LogisticRegression

    train, test = benchmark.labelled(Split.TRAIN), benchmark.labelled(Split.TEST_ID)

    def edges(images: np.ndarray) -> np.ndarray:
        grey = images.mean(axis=1) / 255
        grey = np.abs(grey - np.median(grey, axis=(1, 2), keepdims=True))
        return grey.reshape(len(grey), 8, 4, 8, 4).mean(axis=(2, 4)).reshape(len(grey), -1)

    def accuracy(features: object) -> float:
        assert callable(features)
        model = LogisticRegression(C=3.0, max_iter=300).fit(features(train.images), train.labels)
        return float(model.score(features(test.images), test.labels))

    assert accuracy(lambda x: x.mean(axis=(2, 3)) / 255) < 0.2
    assert accuracy(edges) > 0.2
