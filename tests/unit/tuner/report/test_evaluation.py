"""The report's sections on the evaluation: remarks, what stands beside the headline, detectors."""

import re

import pytest

from tests.unit.study_results import CLAIM, arm, record, result
from tuner.analysis.metric_text import larger_is_better, metric_label, shown_in_percent
from tuner.analysis.results import ArmResult, StudyResult
from tuner.report.answer import cautions
from tuner.report.blocks import Heading, Table, Text
from tuner.report.data import report_data
from tuner.report.evaluation import other_scores, scores, secondary_metrics


def with_arms(**values: float) -> StudyResult:
    """Return a result of a winner and a baseline, the baseline at half of the winner's values."""
    metrics = {name.replace("__", "/"): value for name, value in values.items()}
    arms = [
        ArmResult(name, role, "", {}, {f"test/{m}": (share * v, share * v) for m, v in metrics.items()})
        for name, role, share in (("best", "confirm", 1.0), ("oe", "baseline", 0.5))
    ]
    return result(arms=tuple(arms))


def test_remarks_are_cautions_with_their_trials() -> None:
    made = result(remarks={"confirm-0001": ["masked", "left out"], "confirm-0005": ["masked"]})
    assert cautions(made)[:3] == [
        Heading("Cautions", "cautions"),
        Text("masked (trial confirm-0001, confirm-0005)", "warning"),
        Text("left out (trial confirm-0001)", "warning"),
    ]
    assert cautions(result()) == []


def test_beside_the_headline_comes_what_is_not_in_it() -> None:
    made = with_arms(
        calibration__ece=0.08,
        accuracy__clean=0.9,
        **{
            CLAIM.removeprefix("test/"): 0.9,
            "robust_auroc_id_0.1/near": 0.8,
            "robust_auroc_id_0.1/china": 0.7,
            "accuracy/autoattack_0.2": 0.6,
            "accuracy/corrupted/off_noise": 0.5,
            "knn/auroc/near": 0.4,
        },
    )
    table, _ = secondary_metrics(made)
    assert isinstance(table, Table)
    assert table.title == "Beside the headline"
    assert list(table.header) == ["test metric", "winner", "oe"]
    assert [list(row) for row in table.rows] == [
        ["expected calibration error", "8.0 ± 0.0 %", "4.0 ± 0.0 %"],
        ["accuracy under AutoAttack (ε 0.2)", "60.0 ± 0.0 %", "30.0 ± 0.0 %"],
        ["robust AUROC (ID attacked, ε 0.1), near OOD", "80.0 ± 0.0 %", "40.0 ± 0.0 %"],
        ["accuracy on corruptions that are no noise", "50.0 ± 0.0 %", "25.0 ± 0.0 %"],
    ]


def test_without_arms_the_winner_s_one_run_is_shown() -> None:
    best = record()
    tests = {
        best.key: {
            "test/calibration/ece": 0.08,
            "test/vim/auroc/near": 0.91,
            "test/vim/fpr95_id_pos/far": 0.2,
        }
    }
    made = result(records=(best,), best=best, tests=tests)
    assert [list(row) for row in secondary_metrics(made)[0].rows] == [["expected calibration error", "8.0 %"]]
    table = other_scores(made)[0]
    assert list(table.header) == ["score", "AUROC, near OOD", "FPR95 (OOD accepted at 95 % ID), far OOD"]
    assert [list(row) for row in table.rows] == [["vim", "91.0 %", "20.0 %"]]
    assert (
        secondary_metrics(result()) == other_scores(result()) == scores(result(), report_data(result())) == []
    )


def test_detectors_are_those_of_the_confirmed_winner() -> None:
    table = other_scores(with_arms(**{"msp/auroc/near": 0.9, "vim/auroc/near": 0.8, "vim/auroc/far": 0.7}))[0]
    assert [list(row) for row in table.rows] == [
        ["msp", "90.0 ± 0.0 %", "-"],
        ["vim", "80.0 ± 0.0 %", "70.0 ± 0.0 %"],
    ]
    assert other_scores(result(arms=(arm("best", (0.9,)),))) == []


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("test/robust_auroc_both_0.1/far", "robust AUROC (ID and OOD attacked, ε 0.1), far OOD"),
        ("test/robust_fpr95_id_pos_0.1/near", "robust FPR95 (OOD accepted at 95 % ID) (ε 0.1), near OOD"),
        ("test/robust_fpr95_ood_pos_id_1/x", "robust FPR95 (ID flagged at 95 % OOD) (ID attacked, ε 1), x"),
        ("test/energy/robust_auroc_id_0.1/near", "robust AUROC by energy (ID attacked, ε 0.1), near OOD"),
        ("test/accuracy/autoattack_0.03137", "accuracy under AutoAttack (ε 0.03137)"),
        ("val/calibration/ece", "validation expected calibration error"),
    ],
)  # fmt: skip
def test_labels_directions_and_units(metric: str, words: str) -> None:
    assert metric_label(metric) == words
    assert shown_in_percent(metric)
    assert larger_is_better(metric) == (not re.search("ece|fpr95", metric))
