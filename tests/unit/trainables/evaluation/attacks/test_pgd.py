"""PGD that drops finished images: the verdicts of the plain loop, and fewer images through the network."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.unit import toy
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.open_dataset import load
from trainables.data.types.splits import Split
from trainables.evaluation.attacks.dynamic_batching import padded_size
from trainables.evaluation.attacks.pgd import broken_by_pgd, is_remembered
from trainables.functional.attacks import attack_mode
from trainables.methods.adversarial import PGDAT
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.adversarial import PGDATOptions
from trainables.options.classifiers import StandardOptions


class Double(nn.Module):
    """The same classifier in float64: rounding decides no sign, whatever the kernels of the machine."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.network(x.double())


@pytest.fixture(scope="module")
def digits():
    benchmark = load("digits").for_search()
    data = benchmark.labelled(Split.VAL_ID)
    networks = {}
    for name, make, options in (("standard", Standard, StandardOptions), ("robust", PGDAT, PGDATOptions)):
        method = make(build(options, {"epochs": 4}), toy.context(0, data=benchmark))
        for epoch in range(4):
            method.train_epoch(epoch)
        networks[name] = Double(method.network)
    return networks, torch.tensor(data.images), torch.tensor(data.labels)


def margin(logits, labels):
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own)[:, 0]


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def plain(network, loss, images, labels, starts, epsilon, steps, length):
    """Every image to the last step."""
    low, high = (images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1)
    x = torch.clamp(images + epsilon * starts, low, high)
    broken = torch.zeros(len(images), dtype=torch.bool)
    for step in range(steps + 1):
        x.requires_grad_(True)
        logits = network(x)
        broken |= logits.argmax(1) != labels
        if step < steps:
            (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), x)
            x = torch.clamp(x.detach() + length * gradient.sign(), low, high)
    return broken


def starts_of(images, seed=0):
    return torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epsilon", "loss", "share"),
    [
        ("standard", 0.06, cross_entropy, 1 / 4),
        ("standard", 0.06, margin, 1 / 40),
        ("robust", 0.2, cross_entropy, 1 / 40),
        ("robust", 0.2, margin, 1 / 4),
    ],
)
def test_verdicts_are_those_of_the_plain_loop_for_less(digits, name, epsilon, loss, share):
    networks, images, labels = digits
    images, labels = images[:60], labels[:60]
    network = networks[name]
    starts, rows = starts_of(images), torch.arange(len(images))
    with attack_mode(network):
        network.seen = 0
        wanted = plain(network, loss, images, labels, starts, epsilon, 100, share * epsilon)
        whole, network.seen = network.seen, 0
        found = broken_by_pgd(
            network, loss, images, labels, starts, rows, epsilon, steps=100, length=share * epsilon, size=32
        )
    assert 0.1 < wanted.float().mean() < 0.9
    assert torch.equal(found, wanted)
    # a step of epsilon / 40 crosses the ball in 80 steps: before that, nothing repeats
    assert network.seen < whole / (3 if share == 1 / 4 else 1.05)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_size_of_the_batch_changes_nothing(digits, size):
    networks, images, labels = digits
    network, images, labels = networks["robust"], images[:40], labels[:40]
    rows = torch.arange(40)
    with attack_mode(network):
        wanted = plain(network, margin, images, labels, starts_of(images), 0.2, 12, 0.05)
        found = broken_by_pgd(
            network, margin, images, labels, starts_of(images), rows, 0.2, steps=12, length=0.05, size=size
        )
    assert torch.equal(found, wanted)


def test_some_rows_alone_in_their_own_order_and_bytes(digits):
    networks, images, labels = digits
    network = networks["robust"]
    rows = torch.tensor([50, 3, 17, 4, 90, 91, 92])
    grey = (images * 255).round().to(torch.uint8)
    with attack_mode(network):
        wanted = plain(network, margin, to_unit(grey), labels, starts_of(images), 0.25, 10, 0.06)[rows]
        found = broken_by_pgd(
            network, margin, grey, labels, starts_of(images), rows, 0.25, steps=10, length=0.06, size=4
        )
        none = broken_by_pgd(
            network, margin, grey, labels, starts_of(images), rows[:0], 0.25, steps=10, length=0.06, size=4
        )
    assert 0 < wanted.sum() < len(rows)
    assert torch.equal(found, wanted)
    assert none.shape == (0,)


class Counter(nn.Module):
    """One pixel, logits (x, 0.5); the gradient's sign is always +, and class 1 wins up to 0.5."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        value = x.flatten(1)
        return torch.cat([value, torch.full_like(value, 0.5)], 1)


def test_an_image_leaves_when_its_iterate_is_one_that_was_there():
    """Label 0 at 0.9 goes down to the face of its ball: 0.9, 0.825, 0.8, 0.8, 0.8. The iterate of step 4 is the one of
    two steps before: 4 passes in place of 101. Label 0 at 0.55 falls at its second iterate.
    """
    network = Counter()
    images, labels = torch.tensor([0.9, 0.55]).view(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    found = broken_by_pgd(
        network,
        lambda logits, labels: -logits[:, 0],
        images,
        labels,
        torch.zeros_like(images),
        torch.arange(2),
        0.1,
        steps=100,
        length=0.075,
        size=2,
    )
    assert found.tolist() == [False, True]
    assert len(network.seen) == 4


def test_only_the_allowed_iterates_count():
    """Steps of 0.1 from 0.95 within a ball of 0.6: iterates .95, .85, ..., .45 below 0.5 at step 5, not at 4."""
    image, label = torch.full((1, 1, 1, 1), 0.95), torch.zeros(1, dtype=torch.long)
    for steps, broken in ((4, False), (5, True), (0, False)):
        found = broken_by_pgd(
            Counter(),
            lambda logits, labels: -logits[:, 0],
            image,
            label,
            torch.zeros_like(image),
            torch.arange(1),
            0.6,
            steps=steps,
            length=0.1,
            size=8,
        )
        assert found.item() is broken


def test_remembered_iterates():
    ages = [age for age in range(101) if is_remembered(age)]
    assert ages == [0, 4, 8, 12, 16, 24, 32, 48, 64, 96]


def test_a_period_longer_than_a_gap_is_seen_in_the_end():
    """The rule alone, on iterates that repeat with period 6 from age 3: seen once the gap is 8."""

    def seen(start, period, steps=1000):
        memory = 0
        for age in range(1, steps):
            state = age if age < start else start + (age - start) % period
            if state == memory:
                return age
            if is_remembered(age):
                memory = state
        return steps

    assert seen(0, 1) == 1
    assert seen(3, 2) == 6
    assert seen(3, 6) == 22  # remembered at 16, again at 22
    assert seen(25, 10) == 42  # remembered at 32
    for start in range(1, 200):
        assert seen(start, 4) <= max(1.5 * start, start + 4) + 4


def test_batches_come_in_few_sizes():
    """The docstring's examples; never fewer than go on, at most a quarter or 7 more, 16 sizes up to 256."""
    assert [padded_size(count) for count in (1, 3, 8, 9, 50, 100, 200, 256)] == [
        8,
        8,
        8,
        16,
        56,
        112,
        224,
        256,
    ]
    sizes = [padded_size(count) for count in range(1, 257)]
    assert sizes == sorted(sizes)
    assert all(count <= size <= max(count + 7, 1.25 * count) for count, size in enumerate(sizes, start=1))
    assert len(set(sizes)) == 16
