"""Which metrics show a result set by set, and how sets are called."""

import pytest

from tests.unit.study_results import plan, result
from tuner.analysis.set_metrics import families, family_label, is_detail, set_label, set_metrics


def test_the_claims_family_by_set() -> None:
    names = (
        "test/robust_auroc_0.05/x",
        "test/robust_auroc_0.1/y",
        "test/robust_auroc_0.1/x",
        "test/robust_auroc_0.1/near",
        "test/robust_auroc_id_0.1/x",
        "test/energy/robust_auroc_0.1/x",
        "test/auroc/x",
    )
    made = result(tests={"0000": dict.fromkeys(names, 0.5)})
    assert set_metrics(made) == [
        "test/robust_auroc_0.1/y",
        "test/robust_auroc_0.1/x",
    ]  # in the order measured
    assert set_metrics(result(tests={"0": {"test/auroc/x": 0.5}})) == ["test/auroc/x"]
    robust = {"test/accuracy/robust_0.2": 0.5, "test/accuracy/clean": 1.0}
    assert set_metrics(result(tests={"0": robust})) == ["test/accuracy/robust_0.2"]
    assert set_metrics(result()) == []


def test_corruptions_of_a_claim_about_their_mean() -> None:
    made = result(plan=plan(headline=("test/accuracy/corrupted",)))
    names = [
        "test/auroc/x",
        "test/accuracy/corrupted",
        "test/accuracy/corrupted/off_noise",
        "test/accuracy/corrupted/fog",
    ]
    assert families(made, names) == [["test/accuracy/corrupted/fog"], [], ["test/auroc/x"], []]


@pytest.mark.parametrize(
    ("metric", "label", "family"),
    [
        ("test/robust_auroc_0.1/china_stretched", "china stretched", "robust AUROC (ε 0.1)"),
        ("test/accuracy/corrupted/shot_noise", "shot noise", "accuracy by corruption"),
        ("test/accuracy/robust_0.2", "ε 0.2", "accuracy under attack by radius"),
        ("test/accuracy/clean", "clean accuracy", "clean accuracy"),
    ],
)
def test_labels(metric: str, label: str, family: str) -> None:
    assert (set_label(metric), family_label(metric)) == (label, family)


@pytest.mark.parametrize(
    ("metric", "detail"),
    [
        ("test/knn/auroc/hflip", True),
        ("test/msp/fpr95_id_pos/dtd", True),
        ("test/knn/auroc/near", False),
        ("test/knn/auroc/unknown", False),
        ("test/auroc/hflip", False),
        ("test/accuracy/clean", False),
        ("val/auroc/jigsaw", False),
        ("test/of_another_version", False),
    ],
)
def test_values_of_other_scores_on_single_sets_are_details(metric: str, detail: bool) -> None:
    assert is_detail(metric) is detail
