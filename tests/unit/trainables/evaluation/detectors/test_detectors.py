"""Detectors against hand-worked values, loops, and pytorch-ood where that is accurate; symmetries of the scores."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.types.splits import Split
from trainables.evaluation.detectors.ash import Ash
from trainables.evaluation.detectors.knn import Knn
from trainables.evaluation.detectors.mahalanobis import Mahalanobis
from trainables.evaluation.detectors.odin import Odin
from trainables.evaluation.detectors.react import React
from trainables.evaluation.detectors.vim import Vim, main_dimensions
from trainables.evaluation.metrics.scores import energy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(weight, bias):
    head = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight))
        head.bias.copy_(torch.tensor(bias))
    return head


def regular(n=400, d=6, classes=3, seed=0):
    """Return features of full rank around class means, their labels and a head."""
    labels = torch.arange(n) % classes
    means = 3 * torch.randn(classes, d, generator=generator(seed))
    torch.manual_seed(seed)
    head = nn.Linear(d, classes)
    return means[labels] + torch.randn(n, d, generator=generator(seed + 1)), labels, head


def ranks(values):
    return np.argsort(np.argsort(np.asarray(values)))


def test_mahalanobis_golden():
    """Means (0, 0) and (10, 0), covariance diag(4, 1): (2, 3) scores 4/4 + 9/1 = 10, (10, -2) scores 0 + 4 = 4."""
    square = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
    features = torch.cat([square, square + torch.tensor([10.0, 0.0])])
    labels = torch.tensor([0] * 4 + [1] * 4)
    fitted = Mahalanobis(ridge=0.0).fit_features(features, labels, linear([[1.0, 0.0]], [0.0]))
    found = fitted.score_features(torch.tensor([[2.0, 3.0], [10.0, -2.0]]))
    assert found.tolist() == pytest.approx([10.0, 4.0])


def test_mahalanobis_does_not_depend_on_the_coordinates():
    """Any invertible linear map of all features changes no distance (without a ridge)."""
    features, labels, head = regular()
    turned = features @ torch.randn(6, 6, generator=generator(5)) + 7
    scores = [Mahalanobis(0.0).fit_features(z, labels, head).score_features(z) for z in (features, turned)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=1e-3)


def test_mahalanobis_is_the_library_s_on_regular_features():
    """The library's covariance is the sum over n images and its score half the square: ours is 2 n times as large."""
    from pytorch_ood.detector import Mahalanobis as Library

    features, labels, head = regular()
    fresh = 4 * torch.randn(100, 6, generator=generator(9))
    library = Library(None).fit_features(features, labels).predict_features(fresh)
    ours = Mahalanobis(ridge=0.0).fit_features(features, labels, head).score_features(fresh)
    torch.testing.assert_close(ours, library.double() * 2 * len(features), rtol=1e-3, atol=1e-4)


def test_mahalanobis_stands_dead_features_and_few_images():
    """20 images of 64 features, half of them always 0: distances stay finite, positive and largest far away."""
    features = torch.zeros(20, 64)
    features[:, :32] = torch.rand(20, 32, generator=generator())
    labels = torch.arange(20) % 2
    fitted = Mahalanobis().fit_features(features, labels, linear([[0.0] * 64] * 2, [0.0, 0.0]))
    inside, outside = fitted.score_features(features), fitted.score_features(features + 1)
    assert (inside >= 0).all()
    assert torch.isfinite(outside).all()
    assert outside.min() > inside.max()


def test_knn_golden():
    """k = 2, training directions (1, 0), (0, 1), (-1, 0): from (5, 0) they lie 0, sqrt 2 and 2 away."""
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    fitted = Knn(k=2).fit_features(features, torch.zeros(3), linear([[1.0, 0.0]], [0.0]))
    assert fitted.score_features(torch.tensor([[5.0, 0.0]])).item() == pytest.approx(math.sqrt(2))


def test_knn_is_the_library_s():
    from pytorch_ood.detector import KNN

    features, labels, head = regular()
    fresh = torch.randn(100, 6, generator=generator(9))
    library = KNN(None, k=50)
    library.fit_features(features, labels)
    ours = Knn().fit_features(features, labels, head).score_features(fresh)
    torch.testing.assert_close(ours, library.predict_features(fresh), rtol=0, atol=1e-6)


def test_knn_of_a_training_image_is_exactly_zero_and_needs_k_images():
    features, labels, head = regular()
    assert Knn(k=1).fit_features(features, labels, head).score_features(features).max() < 1e-7
    with pytest.raises(InputError, match="neighbour 50, but there are only 49"):
        Knn().fit_features(features[:49], labels[:49], head)


def test_knn_has_the_neighbours_of_its_paper_by_data_set():
    ks = {name: Knn().for_dataset(name).k for name in ("cifar10", "cifar100", "imagenet", "digits")}
    assert ks == {"cifar10": 50, "cifar100": 200, "imagenet": 1000, "digits": 50}
    assert Ash().for_dataset("imagenet") == Ash()


def test_knn_of_a_share_of_the_images_takes_that_share_of_the_neighbours():
    """k = 4 of 6 images, of which 3 are there: the second nearest of them, sqrt 2 away."""
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    fitted = Knn(k=4, of=6).fit_features(features, torch.zeros(3), linear([[1.0, 0.0]], [0.0]))
    assert fitted.score_features(torch.tensor([[5.0, 0.0]])).item() == pytest.approx(math.sqrt(2))
    whole = Knn().for_dataset("imagenet")
    assert round(whole.k * 50_000 / whole.of) == 39


def test_vim_golden():
    """Head f = (x, -x) without bias: u = 0. Training (3, 1), (-3, -1), (3, -1), (-3, 1): main axis x, residual |y|.

    Largest logits 3, residuals 1, so a = 3. For (2, 5): 3 * 5 - log(e^2 + e^-2).
    """
    features = torch.tensor([[3.0, 1.0], [-3.0, -1.0], [3.0, -1.0], [-3.0, 1.0]])
    head = linear([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])
    fitted = Vim(dim=1).fit_features(features, torch.zeros(4), head)
    assert fitted.alpha == pytest.approx(3.0)
    expected = 15 - math.log(math.exp(2) + math.exp(-2))
    assert fitted.score_features(torch.tensor([[2.0, 5.0]])).item() == pytest.approx(expected)


def test_vim_centres_where_all_logits_are_equal():
    """Head f = (x + 1, -x - 1): pinv puts u at (-1, 0); the residual of (4, 2) is its y, whatever its x."""
    head = linear([[1.0, 0.0], [-1.0, 0.0]], [1.0, -1.0])
    features = torch.tensor([[2.0, 1.0], [-4.0, -1.0], [2.0, -1.0], [-4.0, 1.0]])
    fitted = Vim(dim=1).fit_features(features, torch.zeros(4), head)
    assert fitted.alpha == pytest.approx(3.0)  # largest logits 3, residuals 1
    expected = 3 * 2 - math.log(math.exp(5) + math.exp(-5))
    assert fitted.score_features(torch.tensor([[4.0, 2.0]])).item() == pytest.approx(expected)


def test_vim_is_the_library_s_on_a_regular_spectrum():
    from pytorch_ood.detector import ViM

    features, labels, head = regular()
    fresh = 3 * torch.randn(100, 6, generator=generator(9))
    library = ViM(None, 3, head.weight, head.bias).fit_features(features, labels).predict_features(fresh)
    ours = Vim(dim=3).fit_features(features, labels, head).score_features(fresh)
    torch.testing.assert_close(ours, library.double(), rtol=1e-4, atol=1e-4)


def test_vim_dimensions_follow_the_paper():
    assert [main_dimensions(width) for width in (640, 768, 1280, 2048)] == [320, 512, 512, 1000]
    features, head = torch.randn(30, 6, generator=generator()), nn.Linear(6, 2)
    assert Vim().fit_features(features, torch.zeros(30), head)._main.shape == (6, 3)
    with pytest.raises(InputError, match="keeps 6 of 6"):
        Vim(dim=6).fit_features(features, torch.zeros(30), head)


def test_vim_of_features_without_residual_is_finite():
    """Features of rank 1 leave nothing outside one dimension: no division by 0."""
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    head = linear([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])
    found = Vim(dim=1).fit_features(features, torch.zeros(3), head).score_features(features)
    assert torch.isfinite(found).all()


def test_react_golden():
    """The 0.9 quantile of 0, 1, ..., 9, 100 is 9; (50, 2) becomes (9, 2), the energy -log(e^9 + e^2)."""
    features = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100]]).T.repeat(1, 2)
    head = linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    fitted = React().fit_features(features, torch.zeros(11), head)
    assert fitted.threshold == pytest.approx(9.0)
    found = fitted.score_features(torch.tensor([[50.0, 2.0]])).item()
    assert found == pytest.approx(-math.log(math.exp(9) + math.exp(2)))


def test_ash_golden():
    """Half of (4, 3, 2, 1) is cut: sums 10 and 7. s: (4, 3) e^(10/7); p: (4, 3); b: 10/2 each.

    Head: f0 = first + second, f1 = 0.
    """
    head = linear([[1.0, 1.0, 0.0, 0.0], [0.0] * 4], [0.0, 0.0])
    logits = {"ash-s": 7 * math.exp(10 / 7), "ash-p": 7.0, "ash-b": 10.0}
    for variant, logit in logits.items():
        fitted = Ash(0.5, variant).fit_features(torch.zeros(1, 4), torch.zeros(1), head)
        found = fitted.score_features(torch.tensor([[4.0, 3.0, 2.0, 1.0]])).item()
        assert found == pytest.approx(-math.log(math.exp(logit) + 1))
    with pytest.raises(InputError, match="ash-s"):
        Ash(0.5, "ash-q").fit_features(torch.zeros(1, 4), torch.zeros(1), head)


def test_ash_of_an_image_without_any_feature_is_its_energy():
    head = linear([[1.0, 1.0], [0.0, 0.0]], [2.0, 1.0])
    fitted = Ash().fit_features(torch.zeros(1, 2), torch.zeros(1), head)
    assert fitted.score_features(torch.zeros(1, 2)).item() == pytest.approx(
        -math.log(math.exp(2) + math.exp(1))
    )


class OneWeight(nn.Module):
    """Two classes with logits (3 x, 0) of the first pixel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        first = self.weight * x[:, 0, 0, 0]
        return torch.stack([first, torch.zeros_like(first)], 1)


def test_odin_golden():
    """At x = 0.5, class 0 is predicted and x~ = 0.5 + 0.1; two classes' log-odds against p are -(3 * 0.6 - 0) / T."""
    found = Odin(temperature=2.0, epsilon=0.1).fit(OneWeight(), toy.images_of(1, 0), "cpu")
    assert found.score(torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(-1.8 / 2)


def test_odin_is_the_library_s(network, benchmark):
    """Ours is log((1 - p) / p): of the library's p in float64 too, up to what its logits in float32 leave."""
    from pytorch_ood.detector import ODIN

    images = torch.tensor(benchmark.sets(Split.TEST_OOD_NEAR)["unknown"].images)
    p = -ODIN(network.eval(), temperature=10.0).predict(images).double()
    ours = Odin(temperature=10.0).fit(network, benchmark.labelled(Split.TRAIN), "cpu").score(images)
    torch.testing.assert_close(ours, ((1 - p) / p).log(), rtol=1e-4, atol=1e-4)


def test_odin_does_not_depend_on_the_batch(network, benchmark):
    images = torch.tensor(benchmark.labelled(Split.TEST_ID).images[:20])
    fitted = Odin(epsilon=0.05).fit(network, benchmark.labelled(Split.TRAIN), "cpu")
    alone = torch.cat([fitted.score(images[i : i + 1]) for i in range(20)])
    torch.testing.assert_close(fitted.score(images), alone, rtol=1e-5, atol=1e-8)


def test_epsilon_zero_is_the_softmax(network, benchmark):
    images = torch.tensor(benchmark.labelled(Split.TEST_ID).images[:50])
    found = (
        Odin(temperature=1.0, epsilon=0.0).fit(network, benchmark.labelled(Split.TRAIN), "cpu").score(images)
    )
    with torch.no_grad():
        p = network.eval()(images).double().softmax(1).amax(1)
    np.testing.assert_array_equal(ranks(found), ranks(-p))


def test_react_without_a_cut_and_ash_without_pruning_are_the_energy():
    """Quantile 1 cuts nothing of the training features; ash-p at percentile 0 keeps all."""
    features, labels, head = regular()
    with torch.no_grad():
        expected = energy(head(features)).double()
    for detector in (React(1.0), Ash(0.0, "ash-p")):
        found = detector.fit_features(features, labels, head).score_features(features)
        torch.testing.assert_close(found, expected)
