"""Detectors against hand-worked values, loops, and pytorch-ood where that is accurate; symmetries of the scores."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import ArraySource, LazyImages
from trainables.data.types.splits import Split
from trainables.evaluation.detectors import score_all as module
from trainables.evaluation.detectors.ash import Ash
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.cores import CoresDetector
from trainables.evaluation.detectors.features import features_of, first_fit_images
from trainables.evaluation.detectors.knn import Knn
from trainables.evaluation.detectors.mahalanobis import Mahalanobis
from trainables.evaluation.detectors.odin import Odin
from trainables.evaluation.detectors.react import React
from trainables.evaluation.detectors.score_all import score_all
from trainables.evaluation.detectors.vim import Vim, main_dimensions
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.detector_specs import DETECTORS, DetectorSpec
from trainables.evaluation.metrics.ood_metrics import auroc
from trainables.evaluation.metrics.protocol import EvaluationProtocol, from_fields
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.evaluation.metrics.scores import energy
from trainables.methods.standard import Standard
from trainables.networks import build as build_network
from trainables.options import build
from trainables.options.classifiers import StandardOptions


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


@pytest.fixture(scope="module")
def benchmark():
    return load("digits-open")


@pytest.fixture(scope="module")
def network(benchmark):
    method = Standard(build(StandardOptions, {"epochs": 6}), toy.context(0, data=benchmark.for_search()))
    for epoch in range(6):
        method.train_epoch(epoch)
    return method.network


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
    assert Vim().fit_features(features, torch.zeros(30), head)._residual.shape == (6, 3)
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


def images_of(benchmark, count):
    """Return the first test images of every set."""
    splits = (Split.TEST_ID, Split.TEST_OOD_NEAR, Split.TEST_OOD_FAR, Split.TEST_OOD_OTHER)
    return {name: data.images[:count] for split in splits for name, data in benchmark.sets(split).items()}


def test_every_detector_tells_digits_from_noise(network, benchmark):
    """Scores of every test set, by the class interface too; uniform noise ranks above digits for all of them."""
    sets = images_of(benchmark, 100)
    scores = score_all(network, benchmark.labelled(Split.TRAIN), sets, DETECTORS.names, "cpu")
    expected = set(sets)
    images = torch.tensor(benchmark.sets(Split.TEST_OOD_FAR)["uniform"].images[:100])
    for name, by_set in scores.items():
        assert set(by_set) == expected
        assert all(v.shape == (100,) and v.dtype == np.float64 for v in by_set.values())
        assert auroc(by_set["id"], by_set["uniform"]) >= 0.8, name
        alone = DETECTORS[name].load().fit(network, benchmark.labelled(Split.TRAIN), "cpu").score(images)
        assert alone.device.type == "cpu"
        np.testing.assert_allclose(alone.numpy(), by_set["uniform"], rtol=1e-6, atol=1e-9)


def test_a_detector_that_does_not_suit_is_left_out_with_its_reason(network, benchmark):
    train = benchmark.labelled(Split.TRAIN)
    few = LabelledImages(train.images[:49], train.labels[:49])
    sets = images_of(benchmark, 10)
    unsuited = {}
    assert list(score_all(network, few, sets, ["knn", "react"], "cpu", unsuited)) == ["react"]
    assert list(unsuited) == ["knn"]
    assert "only 49 training images" in unsuited["knn"]
    with pytest.raises(InputError, match="only 49 training images"):
        score_all(network, few, sets, ["knn", "react"], "cpu")


@pytest.mark.parametrize("name", DETECTORS.names)
def test_scoring_leaves_the_network_as_it_was(name):
    torch.manual_seed(0)
    network = build_network("wrn_40_2", 4, (1, 8, 8), (0.3,), (0.25,), dropout=0.3)
    network.train()
    network.head.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images = torch.rand(4, 1, 8, 8, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = DETECTORS[name].load().fit(network, toy.images_of(60, 0), "cpu")
        torch.testing.assert_close(fitted.score(images), fitted.score(images))  # no dropout
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["body.head.weight"]
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", DETECTORS.names)
def test_bytes_score_as_their_unit_images(name, network, benchmark):
    fitted = DETECTORS[name].load().fit(network, benchmark.labelled(Split.TRAIN), "cpu")
    as_bytes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8))
    torch.testing.assert_close(fitted.score(as_bytes), fitted.score(as_bytes.float() / 255))


def test_features_come_in_order_from_lazy_images_too(network):
    pictures = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    lazy = LazyImages(ArraySource(pictures), (1, 8, 8))
    torch.testing.assert_close(
        features_of(network, lazy, "cpu"), features_of(network, pictures[:, None], "cpu")
    )
    chosen = first_fit_images(LabelledImages(lazy, np.arange(300)), limit=20)
    assert isinstance(chosen.images, LazyImages)
    np.testing.assert_array_equal(np.asarray(chosen.images)[:, 0], pictures[chosen.labels])
    assert (np.diff(chosen.labels) > 0).all()
    again = first_fit_images(LabelledImages(pictures[:, None], np.arange(300)), limit=20)
    np.testing.assert_array_equal(again.labels, chosen.labels)


def test_features_are_computed_once_for_all(network, benchmark, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(1)
        return features_of(*arguments)

    monkeypatch.setattr(module, "features_of", counted)
    scores = score_all(
        network, benchmark.labelled(Split.TRAIN), images_of(benchmark, 20), ["vim", "react", "ash"], "cpu"
    )
    assert len(calls) == 1 + len(scores["vim"])


class FirstFeature(FeatureDetector):
    """Minus the first feature."""

    def fit_features(self, features, labels, head):
        return self

    def score_features(self, features):
        return -features[:, 0].double().cpu()


def test_a_registered_detector_is_measured_by_the_protocol(network, benchmark):
    DETECTORS.register(DetectorSpec("first_feature", "minus it", "features", "", f"{__name__}:FirstFeature"))
    try:
        protocol = from_fields("own", {"groups": ["ood"], "detectors": ["first_feature"]})
        metrics = evaluate(network, benchmark, protocol, generator(), torch.device("cpu")).metrics
    finally:
        DETECTORS.unregister("first_feature")
    sets = {**benchmark.sets(Split.TEST_ID), **benchmark.sets(Split.TEST_OOD_NEAR)}
    scores = {name: -features_of(network, x.images, "cpu")[:, 0].numpy() for name, x in sets.items()}
    near = [auroc(scores["id"], scores[name]) for name in benchmark.sets(Split.TEST_OOD_NEAR)]
    assert metrics["test/first_feature/auroc/near"] == pytest.approx(np.mean(near))
    with pytest.raises(InputError, match="unknown detector 'first_feature'"):
        EvaluationProtocol("own", detectors=("first_feature",)).check()


def test_wrong_names_are_refused_with_the_nearest(network, benchmark):
    with pytest.raises(InputError, match="did you mean mahalanobis"):
        score_all(network, benchmark.labelled(Split.TRAIN), {}, ["mahalonobis"], "cpu")


def test_feature_detectors_are_those_that_share_features():
    shared = {spec.name for spec in DETECTORS if isinstance(spec.load(), FeatureDetector)}
    assert shared == {"mahalanobis", "knn", "vim", "react", "ash"}
    assert isinstance(DETECTORS["cores"].load(), CoresDetector)


def test_the_page_lists_every_score_and_detector():
    page = (Path(__file__).resolve().parents[5] / "docs" / "protocol.md").read_text()
    rows = [(s.name, s.about, "logits", s.source) for s in SCORES]
    rows += [(d.name, d.about, d.needs, d.source) for d in DETECTORS]
    table = page.partition("## Outlier scores and detectors")[2]
    assert [line for line in table.splitlines() if line.startswith("| `")] == [
        f"| `{name}` | {about} | {reads} | {source} |" for name, about, reads, source in rows
    ]


def test_react_without_a_cut_and_ash_without_pruning_are_the_energy():
    """Quantile 1 cuts nothing of the training features; ash-p at percentile 0 keeps all."""
    features, labels, head = regular()
    with torch.no_grad():
        expected = energy(head(features)).double()
    for detector in (React(1.0), Ash(0.0, "ash-p")):
        found = detector.fit_features(features, labels, head).score_features(features)
        torch.testing.assert_close(found, expected)
