"""Lengths of noise that fool a classifier, against classifiers whose answer is known by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.noise_robustness import measure, noise_robustness, shortest_lengths
from trainables.networks.noise_generator import NoiseGenerator


class Brightness(nn.Module):
    """Class 1 for images whose mean is above a half, class 0 for the others; never sure."""

    def __init__(self, steepness=20.0):
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(steepness))

    def forward(self, x):
        side = self.steepness * (x.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([-side, side], dim=1)


def grey(*values, labels=None):
    images = np.zeros((len(values), 1, 2, 2), np.float32) + np.array(values, np.float32)[:, None, None, None]
    labels = [0] * len(values) if labels is None else labels
    return LabelledImages(images, np.array(labels, np.int64))


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def brightening(l2):
    """A generator whose noise is the same large number in every pixel."""
    generator = NoiseGenerator(1, l2, stream())
    with torch.no_grad():
        generator.layers[-1].bias.fill_(1e6)
    return generator


def test_lengths_and_accuracy_golden():
    """Noise of length L brightens each of 4 pixels by L / 2 until it is white.

    Greys of 0.2, 0.4 and 0.1 of class 0 pass the half at L = 0.6, 0.2 and 0.8; 0.7 of class 0 is wrong
    at once: 0. So is 0.9 of class 0; the lower middle of (0, 0, 0.2, 0.6, 0.8) is 0.2. At L = 0.5 only 0.2
    and 0.1 stay right: 2 of 5. A 0.7 of class 1 can never be made darker: infinite.
    """
    found = measure(Brightness(), brightening(0.5), grey(0.2, 0.4, 0.1, 0.7, 0.9), stream())
    np.testing.assert_allclose(found.shortest, [0.6, 0.2, 0.8, 0, 0], atol=1e-5)
    assert found.median_l2 == pytest.approx(0.2, abs=1e-5)
    assert found.accuracy == pytest.approx(0.4)
    assert found.l2 == 0.5
    found = measure(Brightness(), brightening(0.5), grey(0.7, 0.2, labels=[1, 0]), stream())
    np.testing.assert_allclose(found.shortest, [np.inf, 0.6], atol=1e-5)
    assert found.median_l2 == pytest.approx(0.6, abs=1e-5)


def test_search_golden():
    """Thresholds anywhere between 0 and the longest length are found; beyond it there is none."""
    thresholds = torch.tensor([1e-4, 0.01, 0.3, 0.7, 1.0, 7.99, 8.5])
    found = shortest_lengths(lambda lengths: lengths >= thresholds, 7, 8.0, "cpu")
    torch.testing.assert_close(found[:6], thresholds[:6], rtol=1e-6, atol=0)
    assert found[6].isinf()


def test_the_first_of_two_changes_is_found():
    """Fooled on [1, 2) and from 5 on, longest 8: the coarse lengths 8 / 1.8^3 = 1.37 and 0.76 enclose 1."""

    def fooled(lengths):
        return ((lengths >= 1) & (lengths < 2)) | (lengths >= 5)

    assert shortest_lengths(fooled, 1, 8.0, "cpu").item() == pytest.approx(1.0, rel=1e-6)


def test_a_trained_generator_finds_the_shortest_way():
    """Brightening is the shortest way, 0.6 for 0.2 and 0.4 for 0.3; Gaussian noise needs far longer."""
    data = grey(*[0.2, 0.3] * 20)
    results = [
        noise_robustness(
            Brightness(), data, data, 0.5, iterations=iterations, lr=0.05, train_batch=20, generator=stream()
        )
        for iterations in (0, 150)
    ]
    assert results[0].median_l2 > 0.8
    assert results[1].shortest[0::2].mean() == pytest.approx(0.6, rel=0.05)
    assert results[1].shortest[1::2].mean() == pytest.approx(0.4, rel=0.05)
    assert results[1].accuracy == pytest.approx(0.5, abs=0.1)
    assert results[0].accuracy > results[1].accuracy + 0.2


@pytest.mark.parametrize("kind", ["1x1", "3x3"])
def test_measuring_repeats_and_leaves_the_network_as_it_was(kind):
    network = Brightness().train()
    data = grey(0.2, 0.3, 0.4, 0.6, labels=[0, 0, 0, 1])
    options = {"kind": kind, "width": 4, "iterations": 3, "lr": 1e-2, "train_batch": 2}
    first, second = (
        noise_robustness(network, data, data, 0.5, **options, generator=stream(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.shortest, second.shortest)
    assert (first.median_l2, first.accuracy) == (second.median_l2, second.accuracy)
    assert network.training
    assert network.steepness.requires_grad
    assert network.steepness.grad is None
    assert network.steepness.item() == 20.0


def test_no_images_are_refused():
    empty = LabelledImages(np.zeros((0, 1, 2, 2), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="no images"):
        measure(Brightness(), brightening(1.0), empty, stream())
