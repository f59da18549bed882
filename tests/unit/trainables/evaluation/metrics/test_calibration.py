"""Calibration against a hand-worked table, a reference in loops and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from trainables.base.errors import InputError
from trainables.evaluation.metrics.calibration import calibration, fit_temperature, reliability
from trainables.evaluation.metrics.ood_metrics import MetricInputError


def test_golden():
    """Confidences 0.5 (wrong) | 0.6, 1 (right), 1 (wrong): 1/4 * 0.5 + 3/4 * (2.6/3 - 2/3) = 0.125 + 0.15."""
    found = reliability(np.array([0.5, 0.6, 1.0, 1.0]), np.array([False, True, True, False]), bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.count.tolist() == [1, 3]
    assert found.confidence.tolist() == pytest.approx([0.5, 2.6 / 3])
    assert found.accuracy.tolist() == pytest.approx([0, 2 / 3])
    assert found.gaps.tolist() == pytest.approx([-0.5, -0.2])
    assert found.ece == pytest.approx(0.275)
    assert found.largest_gap == pytest.approx(0.5)


def test_the_last_bin_counts():
    """A network that is always sure and right every other time: ECE 1/2, although all of it is at the last edge."""
    found = reliability(np.ones(10), np.arange(10) % 2 == 0)
    assert found.count.tolist() == [0] * 14 + [10]
    assert found.ece == 0.5
    assert math.isnan(found.accuracy[0])
    assert found.gaps[0] == 0


def test_both_ends_and_inner_edges_have_one_bin():
    """Bins are open on the left: 0 falls into the first, 0.25 into the first, 0.5 into the second, 1 into the last."""
    found = reliability(np.array([0.0, 0.25, 0.5, 1.0]), np.ones(4, bool), bins=4)
    assert found.count.tolist() == [2, 1, 0, 1]


def random_logits(n=500, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (n,), generator=generator)


@pytest.mark.parametrize("bins", [1, 10, 15, 100])
def test_ece_is_torchmetrics_where_no_confidence_lies_on_an_edge(bins):
    logits, labels = random_logits()
    found = calibration(logits, labels, bins)
    p = logits.softmax(1)
    for norm, ours in (("l1", found.ece), ("max", found.largest_gap)):
        theirs = multiclass_calibration_error(p, labels, num_classes=5, n_bins=bins, norm=norm)
        assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_confidence_of_exactly_one_shares_the_bin_of_almost_one():
    """0.95 (right), 1 (wrong), one bin (0.9, 1]: |1/2 - 0.975| = 0.475; in bins of their own they would give 0.525."""
    found = reliability(np.array([0.95, 1.0]), np.array([True, False]), bins=10)
    assert found.ece == pytest.approx(0.475)


def test_softmax_does_not_round_to_one():
    """A margin of 20 leaves 2e-9 for the other class, which float32 would drop."""
    found = calibration(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert 1 - found.confidence[-1] == pytest.approx(math.exp(-20), rel=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_against_loops(pairs, bins):
    confidences, right = (np.array(column) for column in zip(*pairs, strict=True))
    found = reliability(confidences, right, bins)
    total = 0.0
    for i in range(bins):
        low, high = found.edges[i], found.edges[i + 1]
        inside = [(p, r) for p, r in pairs if low < p <= high or (i == 0 and p == 0)]
        assert found.count[i] == len(inside)
        total += abs(sum(r for _, r in inside) - sum(p for p, _ in inside))
    assert found.ece == pytest.approx(total / len(pairs), abs=1e-12)
    assert found.count.sum() == len(pairs)
    # the triangle inequality: one bin never shows more
    assert abs(right.mean() - confidences.mean()) <= found.ece + 1e-12
    assert found.ece <= found.largest_gap + 1e-12


@pytest.mark.parametrize(
    ("confidences", "right"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([math.nan], [True])]
)
def test_wrong_input_names_the_set(confidences, right):
    with pytest.raises(MetricInputError, match="of cifar"):
        reliability(np.array(confidences), np.array(right, bool), name="cifar")


def test_no_bins():
    with pytest.raises(InputError, match="1 bin"):
        reliability(np.array([0.5]), np.array([True]), bins=0)


# -- temperature -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 4.0, 100.0])
def test_temperature_by_hand(margin):
    """Logits (a, 0), right three times of four: p = 3/4 where a / T = log 3."""
    logits = torch.tensor([[margin, 0.0]]).repeat(4, 1)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(margin / math.log(3))


def test_temperature_makes_the_labels_most_likely():
    rng = np.random.default_rng(0)
    logits = torch.tensor(5 * rng.normal(size=(300, 4)))
    labels = np.array([rng.choice(4, p=p) for p in (logits / 3).softmax(1).numpy()])
    best = fit_temperature(logits, labels)

    def loss(temperature):
        return float(torch.nn.functional.cross_entropy(logits / temperature, torch.tensor(labels)))

    assert loss(best) < min(loss(best * 0.99), loss(best * 1.01))
    assert 2 < best < 4.5


def test_images_that_are_all_right_do_not_tell_a_temperature():
    assert fit_temperature(torch.tensor([[3.0, 0.0], [0.0, 0.1]]), np.array([0, 1])) == 1.0


def test_labels_that_are_never_predicted_give_the_bound():
    assert fit_temperature(torch.tensor([[3.0, 0.0]]), np.array([1])) == pytest.approx(1000)


@pytest.mark.parametrize(("logits", "labels"), [((0, 2), (0,)), ((2, 2), (3,)), ((2,), (2,)), ((1, 2), (1,))])
def test_temperature_of_what_are_no_logits(logits, labels):
    with pytest.raises(MetricInputError, match="temperature: logits"):
        fit_temperature(torch.full(logits, math.inf), np.zeros(labels, int))
