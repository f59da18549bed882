"""The seal: which stage may open which split, and what a search copy carries."""

import pickle

import numpy as np
import pytest

from trainables.base.errors import SealedSplitError
from trainables.data.types.benchmark import Benchmark, LabelledImages, merge
from trainables.data.types.splits import SEARCH_SPLITS, TEST_SPLITS, DatasetInfo, Split

INFO = DatasetInfo("toy", 2, (1, 2, 2), (0.5,), (0.25,))


def images(n: int = 3, value: float = 0.0) -> LabelledImages:
    return LabelledImages(np.full((n, 1, 2, 2), value, np.float32), np.arange(n) % 2)


def toy(stage: str = "evaluate") -> Benchmark:
    return Benchmark(INFO, {split: {"id": images()} for split in Split}, stage)


def test_every_split_is_either_for_search_or_for_test() -> None:
    assert set(Split) == SEARCH_SPLITS | TEST_SPLITS
    assert not SEARCH_SPLITS & TEST_SPLITS
    assert {s for s in Split if s.value.startswith("val") or s is Split.TRAIN} == SEARCH_SPLITS


@pytest.mark.parametrize("split", Split)
def test_search_opens_train_and_validation_only(split: Split) -> None:
    sealed = toy("search")
    if split in TEST_SPLITS:
        with pytest.raises(SealedSplitError, match=f"split {split.value} of toy is sealed during search"):
            sealed.sets(split)
        with pytest.raises(SealedSplitError):
            sealed.labelled(split)
        assert sealed.opened == set()
    else:
        assert len(sealed.labelled(split)) == 3
        assert sealed.opened == {split}


@pytest.mark.parametrize("split", Split)
def test_evaluation_opens_everything(split: Split) -> None:
    assert len(toy().sets(split)["id"]) == 3


@pytest.mark.parametrize("split", sorted(TEST_SPLITS))
def test_search_copy_has_no_test_array_and_still_says_sealed(split: Split) -> None:
    copy = toy().for_search()
    assert set(copy.parts) == SEARCH_SPLITS
    assert not copy.has(split)
    with pytest.raises(SealedSplitError):
        copy.sets(split)
    with pytest.raises(SealedSplitError):
        pickle.loads(pickle.dumps(copy)).sets(split)


def test_what_was_opened_is_recorded_and_not_shared_with_the_copy() -> None:
    whole = toy()
    copy = whole.for_search()
    copy.sets(Split.TRAIN)
    whole.sets(Split.TEST_ID)
    assert (whole.opened, copy.opened) == ({Split.TEST_ID}, {Split.TRAIN})


def test_a_split_that_was_not_loaded() -> None:
    with pytest.raises(KeyError, match="split val_ood_far of toy was not loaded"):
        Benchmark(INFO, {}).sets(Split.VAL_OOD_FAR)


def test_merge_keeps_order_and_labels() -> None:
    merged = merge([images(2, 0.25), images(3, 0.75)])
    assert merged.images[:, 0, 0, 0].tolist() == [0.25, 0.25, 0.75, 0.75, 0.75]
    assert merged.labels.tolist() == [0, 1, 0, 1, 0]
    assert len(merged) == 5
