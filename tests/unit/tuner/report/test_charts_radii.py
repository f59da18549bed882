"""Accuracy and AUROC over the radius: values by hand, the line of guessing, too few radii."""

from tests.unit.study_results import result
from trainables.data.types.radii import Radii, radii_of
from trainables.evaluation.metrics.presets import fields_of
from tuner.analysis.results import ArmResult
from tuner.report.charts_radii import radius_curves

RADII = (0.05, 0.1, 0.2)


def arm(name: str, drop: float) -> ArmResult:
    """Return an arm of two seeds whose accuracy falls by so much from radius to radius, from 90 and 92 %."""
    values = {"test/accuracy/clean": [0.9, 0.92], "test/auroc/near": [0.8, 0.8]}
    for k, radius in enumerate(RADII, start=1):
        values[f"test/accuracy/robust_{radius}"] = [0.9 - k * drop, 0.92 - k * drop]
        values[f"test/robust_auroc_{radius}/near"] = [0.8 - k * drop, 0.8 - k * drop]
        values[f"test/robust_auroc_id_{radius}/near"] = [0.1, 0.1]  # another side is another curve
    return ArmResult(name, "search" if name == "best" else "baseline", "", {}, values)


def test_a_line_for_each_arm_from_the_value_without_attack_on() -> None:
    made = radius_curves(result(arms=(arm("best", 0.1), arm("oe", 0.2)), classes=("a", "b", "c", "d")))
    (accuracy, table), (auroc, near) = made
    assert table.title == "Accuracy over the radius of the attack"
    assert table.header == ("configuration", "ε 0", "ε 0.05", "ε 0.1", "ε 0.2")
    # t(.975, 1) = 12.706, standard error .01: 91 ± 12.7, cut off at 100
    assert table.rows[0][:2] == ["winner", "91.0 (78.3–100.0) %"]
    assert [row[0] for row in table.rows] == ["winner", "oe"]
    assert near.rows[1] == ["oe", "80.0 ± 0.0 %", "60.0 ± 0.0 %", "40.0 ± 0.0 %", "20.0 ± 0.0 %"]
    assert "guessing, 25.0 %" in accuracy
    assert "guessing, 50.0 %" in auroc
    # 0.1 of 0.2 is half of the width
    assert (
        accuracy.count('class="run0"')
        == accuracy.count('class="run1"')
        == accuracy.count('class="guess"')
        == 1
    )
    path = accuracy.partition('class="run0"')[0].rpartition('d="M')[2]
    assert [
        int(point.split()[0]) for point in path.replace("M", "").replace('"', "").strip().split(" ")[::2]
    ] == [
        0,
        250,
        500,
        1000,
    ]


def test_two_radii_are_no_curve_and_unknown_classes_no_line() -> None:
    few = arm("best", 0.1)
    values = {name: value for name, value in few.values.items() if "0.05" not in name}
    assert radius_curves(result(arms=(ArmResult("best", "search", "", {}, values),))) == []
    (accuracy, _), _ = radius_curves(result(arms=(few,)))
    assert "guessing" not in accuracy


def test_the_protocol_of_curves() -> None:
    """From a quarter to four times the radius, at most 0.5, from where on every image can be made grey."""
    assert fields_of("curves", radii_of("digits"))["robust_epsilons"] == (
        *(0.0375, 0.075, 0.11249999999999999, 0.15),
        *(0.22499999999999998, 0.3, 0.44999999999999996, 0.5),
    )
    assert fields_of("curves", Radii((0.25,), (0.25,)))["ood_epsilons"] == (
        0.0625,
        0.125,
        0.1875,
        0.25,
        0.375,
        0.5,
    )
