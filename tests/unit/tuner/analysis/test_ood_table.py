"""Rows of arms, scores and OOD sets: which number stands where."""

from tests.unit.study_results import plan, record, result
from tuner.analysis.ood_table import kinds_of, ood_rows
from tuner.analysis.results import ArmResult

VALUES = {
    "test/accuracy/clean": (0.9, 0.92),
    "test/auroc/near": (0.8, 0.84),
    "test/auroc/hflip": (0.7, 0.74),
    "test/knn/auroc/hflip": (0.6, 0.64),
    "test/knn/fpr95_id_pos/hflip": (0.3, 0.5),
    "test/robust_auroc_0.1/hflip": (0.2, 0.4),
    "test/robust_auroc_id_0.1/hflip": (0.25, 0.35),
}


def test_a_row_for_each_arm_score_and_set_the_studys_own_score_first() -> None:
    arms = (
        ArmResult("best", "search", "", {}, VALUES),
        ArmResult("oe", "baseline", "", {}, {"test/knn/auroc/hflip": (0.1,)}),
    )
    rows = ood_rows(result(plan=plan(), arms=arms))
    assert [(row.arm.name, row.score, row.where) for row in rows] == [
        ("best", "msp", "hflip"),
        ("best", "msp", "near"),
        ("best", "knn", "hflip"),
        ("oe", "knn", "hflip"),
    ]
    own, means, knn, other = rows
    assert {kind: round(found.mean, 3) for kind, found in own.values.items()} == {
        "auroc": 0.72, "robust_auroc_0.1": 0.3, "robust_auroc_id_0.1": 0.3,
    }  # fmt: skip
    assert {kind: found.n for kind, found in means.values.items()} == {"auroc": 2}
    assert {kind: round(found.mean, 3) for kind, found in knn.values.items()} == {
        "auroc": 0.62,
        "fpr95_id_pos": 0.4,
    }
    assert other.values["auroc"].mean == 0.1
    assert kinds_of(rows) == ["auroc", "robust_auroc_0.1", "robust_auroc_id_0.1", "fpr95_id_pos"]


def test_without_arms_the_winners_run_in_the_search_counts() -> None:
    best = record()
    (row,) = ood_rows(result(records=(best,), best=best, tests={best.key: {"test/auroc/hflip": 0.7}}))
    assert (row.arm.label, row.where, row.values["auroc"].mean) == ("winner", "hflip", 0.7)
    assert ood_rows(result()) == []
