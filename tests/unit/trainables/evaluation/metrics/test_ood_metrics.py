"""OOD metrics: goldens by hand, scikit-learn as the reference, and what holds for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from trainables.evaluation.metrics.ood_metrics import (
    OOD_METRICS,
    MetricInputError,
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    fpr95_id_pos,
    fpr95_ood_pos,
    ood_metrics,
    threshold95,
)

# few distinct values, so that ties are the rule
tied = arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]))
names = st.sampled_from(sorted(OOD_METRICS))

#: six images: the two conventions of FPR95 give different numbers
TOY = ([0.1, 0.4, 0.6], [0.3, 0.7, 0.9])


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "random": (rng.normal(0, 1, 300), rng.normal(1, 1, 170)),
        "tied": (rng.integers(0, 6, 100).astype(float), rng.integers(2, 8, 250).astype(float)),
        "constant": (np.zeros(20), np.zeros(40)),
        "reversed": (rng.normal(5, 1, 50), rng.normal(-5, 1, 50)),
        "one each": (np.array([1.0]), np.array([1.0])),
        "huge": (rng.normal(0, 1, 60) * 1e300, rng.normal(1, 1, 60) * 1e300),
        "close to 1": (1 - 1e-16 * np.arange(50), 1 + 2e-16 * np.arange(50)),
        "unequal": (rng.normal(0, 1, 1000), rng.normal(0, 1, 3)),
    }


@pytest.mark.parametrize("case", cases())
def test_agrees_with_scikit_learn(case: str) -> None:
    inside, outside = cases()[case]
    scores = np.concatenate([inside, outside])
    is_ood = np.arange(len(scores)) >= len(inside)
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_ood, scores), abs=1e-12)
    assert aupr_out(inside, outside) == pytest.approx(average_precision_score(is_ood, scores), abs=1e-12)
    assert aupr_in(inside, outside) == pytest.approx(average_precision_score(~is_ood, -scores), abs=1e-12)
    for found, positive, ranked in (
        (fpr95_ood_pos(inside, outside), is_ood, scores),
        (fpr95_id_pos(inside, outside), ~is_ood, -scores),
    ):
        fpr, tpr, _ = roc_curve(positive, ranked, drop_intermediate=False)
        assert found == pytest.approx(fpr[np.flatnonzero(tpr >= 0.95 - 1e-12)[0]], abs=1e-12)


def test_toy_by_hand() -> None:
    found = ood_metrics(*TOY)
    # pairs in order: 0.3 beats 0.1; 0.7 and 0.9 beat all three
    assert found["auroc"] == pytest.approx(7 / 9)
    # all ID must be accepted: threshold 0.6 accepts 0.3 too
    assert found["fpr95_id_pos"] == pytest.approx(1 / 3)
    # all OOD must be flagged: threshold 0.3 flags 0.4 and 0.6 too
    assert found["fpr95_ood_pos"] == pytest.approx(2 / 3)
    # descending O O I I O I: precisions 1, 1, 3/5 at the OOD images
    assert found["aupr_out"] == pytest.approx((1 + 1 + 3 / 5) / 3)
    # ascending I O I I O O: precisions 1, 2/3, 3/4 at the ID images
    assert found["aupr_in"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_docstring_examples() -> None:
    assert auroc([1, 2], [2, 3]) == 3.5 / 4
    assert fpr95_id_pos([1, 2, 3], [2, 3, 4]) == pytest.approx(2 / 3)
    assert fpr95_ood_pos([1, 2, 3], [2, 3, 4]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("n", [20, 60, 100, 1000])
def test_95_percent_is_counted_in_whole_images(n: int) -> None:
    """Exactly 5 % of the ID images may lie above the threshold, whatever 0.95 * n rounds to."""
    inside = np.arange(n, dtype=float)
    accepted = n * 95 // 100
    assert fpr95_id_pos(inside, [accepted - 1.0]) == 1.0
    assert fpr95_id_pos(inside, [accepted - 0.5]) == 0.0
    assert fpr95_ood_pos([n - accepted + 0.0], inside) == 1.0
    assert fpr95_ood_pos([n - accepted - 0.5], inside) == 0.0


def test_threshold_by_hand():
    """Of 20 scores 19 are accepted; of 3 all, because 2 are fewer than 95 %."""
    assert threshold95(range(20)) == 18
    assert threshold95([3, 1, 2]) == 3
    assert threshold95(np.r_[np.zeros(19), 7]) == 0
    with pytest.raises(MetricInputError, match="ID scores of cats"):
        threshold95([], "cats")


def test_perfect_and_constant_scores() -> None:
    assert ood_metrics([0, 1], [2, 3]) == {
        "auroc": 1,
        "aupr_in": 1,
        "aupr_out": 1,
        "fpr95_id_pos": 0,
        "fpr95_ood_pos": 0,
    }
    assert ood_metrics(np.ones(30), np.ones(10)) == {
        "auroc": 0.5,
        "aupr_in": 0.75,
        "aupr_out": 0.25,
        "fpr95_id_pos": 1,
        "fpr95_ood_pos": 1,
    }


def test_infinite_scores_are_ranked() -> None:
    found = ood_metrics([-np.inf, 0, np.inf], [np.inf, np.inf, 1])
    assert found == ood_metrics([-9, 0, 9], [9, 9, 1])


@given(names, tied, tied, st.integers(0, 2**32 - 1))
def test_order_of_the_images_does_not_matter(
    name: str, inside: np.ndarray, outside: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shuffled = OOD_METRICS[name](rng.permutation(inside), rng.permutation(outside))
    assert shuffled == OOD_METRICS[name](inside, outside)


@given(names, tied, tied)
def test_only_the_order_of_the_scores_matters(name: str, inside: np.ndarray, outside: np.ndarray) -> None:
    metric = OOD_METRICS[name]
    assert metric(np.exp(inside) - 7, np.exp(outside) - 7) == metric(inside, outside)


@given(tied, tied)
def test_swapping_sides_and_sign(inside: np.ndarray, outside: np.ndarray) -> None:
    assert auroc(outside, inside) == pytest.approx(1 - auroc(inside, outside), abs=1e-12)
    assert auroc(-outside, -inside) == pytest.approx(auroc(inside, outside), abs=1e-12)
    assert aupr_in(inside, outside) == aupr_out(-outside, -inside)
    assert fpr95_id_pos(inside, outside) == fpr95_ood_pos(-outside, -inside)


@given(names, tied, tied)
def test_bounds_and_better_scores(name: str, inside: np.ndarray, outside: np.ndarray) -> None:
    metric = OOD_METRICS[name]
    before, after = metric(inside, outside), metric(inside, outside + 0.5)
    assert 0 <= before <= 1
    if name.startswith("fpr"):
        before, after = -before, -after
    assert after >= before - 1e-12


@pytest.mark.parametrize("name", OOD_METRICS)
def test_bad_input_names_the_side_and_the_set(name: str) -> None:
    metric = OOD_METRICS[name]
    with pytest.raises(MetricInputError, match=r"^OOD scores of china have shape \(0,\)"):
        metric([1.0], [], "china")
    with pytest.raises(MetricInputError, match=r"^ID scores of china: 1 of 2 are NaN"):
        metric([1.0, np.nan], [1.0], "china")
    with pytest.raises(MetricInputError, match=r"shape \(1, 1\); want \(n,\)"):
        metric([[1.0]], [1.0])


def test_accuracy() -> None:
    assert accuracy([0, 1, 2, 2], [0, 1, 2, 0]) == 0.75
    with pytest.raises(MetricInputError, match=r"accuracy of id: \(2,\) predictions for \(3,\) labels"):
        accuracy([0, 1], [0, 1, 2], "id")
    with pytest.raises(MetricInputError):
        accuracy([], [])
