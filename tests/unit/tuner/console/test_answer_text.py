"""The end of a run in the terminal: what must be known before the answer is believed stands with it."""

from dataclasses import replace
from pathlib import Path

from tests.unit.study_results import CLAIM, arm, plan, ranked_alike, record, result
from tuner.analysis.results import ArmResult, StudyResult
from tuner.console.answer_text import Link, answer_lines


def texts(made: StudyResult) -> list[str]:
    return [line for line in answer_lines(made, Path("runs/one")) if not isinstance(line, Link)]


def test_a_poor_yardstick_and_an_end_of_a_range_are_cautions_before_the_links() -> None:
    best = record(params={"outliers.sigma": 3.99})
    (sigma,) = [line for line in texts(result(records=(best,), best=best)) if "sigma = 3.99 lies" in line]
    assert sigma == (
        "caution: The winner's outliers.sigma = 3.99 lies at the upper end of its range (0.25 to 4): values beyond "
        "were not tried; for a new run: --set 'outliers.sigma=loguniform(0.25, 16.0)'."
    )
    lines = texts(ranked_alike([n / 100 for n in range(8)][::-1]))
    (ranked,) = [
        n for n, line in enumerate(lines) if line.startswith("caution: Validation and test order the 8")
    ]
    assert ranked < lines.index("report: runs/one/report.html")


def test_what_is_in_order_is_not_told() -> None:
    steps = [n / 100 for n in range(8)]
    assert not [line for line in texts(ranked_alike(steps)) if "Validation and test" in line]
    seeds = tuple(0.8 + n / 100 for n in range(5))
    whole = result(records=(record(),), best=record(), arms=(arm("best", seeds),))
    assert not [line for line in texts(whole) if "fresh seed" in line and line.startswith("caution")]


NEAR = "test/auroc/near"


def confirmed() -> list[ArmResult]:
    """Return three arms of which two have long names, three seeds each."""
    return [
        ArmResult(name, role, "", {}, {CLAIM: values, NEAR: values})
        for name, role, values in (
            ("best", "confirm", (0.9, 0.92, 0.94)),
            ("plain_outlier_exposure", "baseline", (0.7, 0.72, 0.74)),
            ("random_signs_of_the_same_size", "control", (0.8, 0.82, 0.84)),
        )
    ]


def test_the_table_of_the_answer_is_stacked_where_it_does_not_fit() -> None:
    made = result(plan=replace(plan(), headline=(CLAIM, NEAR)), arms=confirmed())
    wide = [str(line) for line in answer_lines(made, Path("x"), width=115)]
    narrow = [str(line) for line in answer_lines(made, Path("x"), width=60)]
    assert any("winner  plain_outlier_exposure  random_signs" in line for line in wide)
    at = narrow.index("  robust AUROC (ε 0.1), near OOD")
    assert narrow[at + 1 : at + 5] == [
        "    winner                         92.0 ± 5.0 %",  # t(2) 4.303 x 0.02 / sqrt(3)
        "    plain_outlier_exposure         72.0 ± 5.0 %",
        "    random_signs_of_the_same_size  82.0 ± 5.0 %",
        "  AUROC, near OOD",
    ]
    table = narrow[at : narrow.index("  (mean and 95 % interval over 3 fresh seeds)")]
    assert max(map(len, table)) <= 60
