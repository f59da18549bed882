"""Weights of unbalanced classes, and epochs in which each class is seen equally often."""

import numpy as np
import pytest
import torch

from trainables.data.loading.class_balance import class_weights, epoch_order
from trainables.data.loading.device_loader import DeviceLoader
from trainables.data.loading.stream_loader import StreamLoader
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import ArraySource, LazyImages
from trainables.packed.loader import StackedLoader

LABELS = np.repeat([0, 1, 2], [90, 9, 1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered() -> LabelledImages:
    """Return 100 images of 1 x 4 x 4 whose pixels are their number."""
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    return LabelledImages(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 0, 0, 1], [2 / 3, 2, 0]),  # 4 / (2 x 3), 4 / (2 x 1)
        ([0, 1, 2], [1, 1, 1]),
        ([2, 2, 2, 2, 1, 1, 1, 1, 0], [3, 0.75, 0.75]),  # 9 / (3 x 1), 9 / (3 x 4)
        ([1, 1], [0, 1, 0]),
    ],
)
def test_the_weights_worked_out_by_hand(labels: list[int], expected: list[float]) -> None:
    weights = class_weights(np.array(labels), 3)
    assert weights == pytest.approx(np.array(expected))
    assert weights[labels].mean() == pytest.approx(1)


def test_the_weighted_cross_entropy_worked_out_by_hand() -> None:
    """Losses a of three images of class 0 and b of one of class 1: (3 x 2/3 a + 2 b) / 4 is (a + b) / 2."""
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[np.log(3.0), 0.0]] * 4, dtype=torch.float64)  # p = 3/4, 1/4
    weights = torch.tensor(class_weights(labels.numpy(), 2), dtype=torch.float64)
    loss = torch.nn.functional.cross_entropy(logits, labels, weights)
    assert float(loss) == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def test_each_class_is_drawn_equally_often() -> None:
    """100 draws of 1/3 each have a standard deviation of 4.7; 100 epochs of 0.47."""
    generator, labels = seeded(), torch.tensor(LABELS)
    drawn = torch.stack(
        [torch.bincount(labels[epoch_order(labels, True, generator)], minlength=3) for _ in range(100)]
    )
    assert drawn.sum(1).tolist() == [100] * 100
    assert drawn.float().mean(0).tolist() == pytest.approx([100 / 3] * 3, abs=2)


def test_without_balance_the_order_is_the_permutation_of_before() -> None:
    labels = torch.tensor(LABELS)
    assert torch.equal(epoch_order(labels, False, seeded()), torch.randperm(100, generator=seeded()))


def test_every_loader_draws_the_same_balanced_epochs() -> None:
    """In memory, from files, and side by side; a generator that is put back draws the same epoch again."""
    data = numbered()
    lazy = LabelledImages(LazyImages(ArraySource(data.images), (1, 4, 4)), LABELS)  # type: ignore[arg-type]
    ours, theirs, packed = seeded(), seeded(), seeded()
    device = DeviceLoader(data, 8, "cpu", ours, balanced=True)
    stream = StreamLoader(lazy, 8, "cpu", theirs, threads=1, balanced=True)
    stacked = StackedLoader([DeviceLoader(data, 8, "cpu", packed, balanced=True)])
    for _ in range(2):
        position = ours.get_state()
        batches = list(device)
        for (a, la), (b, lb), (c, lc) in zip(batches, stream, stacked, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, c[0])
            assert torch.equal(la, lb)
            assert torch.equal(la, lc[0])
        ours.set_state(position)
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, device, strict=True))
    assert torch.equal(ours.get_state(), theirs.get_state())
