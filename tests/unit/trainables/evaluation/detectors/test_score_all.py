"""All detectors of a protocol on one network: scores of every set, features computed once, names, documentation."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import ArraySource, LazyImages
from trainables.data.types.splits import Split
from trainables.evaluation.detectors import score_all as module
from trainables.evaluation.detectors.base import FeatureDetector
from trainables.evaluation.detectors.cores import CoresDetector
from trainables.evaluation.detectors.features import features_of, first_fit_images
from trainables.evaluation.detectors.score_all import score_all
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.detector_specs import DETECTORS, DetectorSpec
from trainables.evaluation.metrics.ood_metrics import auroc
from trainables.evaluation.metrics.protocol import EvaluationProtocol, from_fields
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.networks import build as build_network


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
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
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
        metrics = evaluate(
            network, benchmark, protocol, torch.Generator().manual_seed(0), torch.device("cpu")
        ).metrics
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
