"""Where a value stands in its range, and how far a wider range goes."""

import pytest

from search_spaces.domain import Choice, Float, Int
from tuner.analysis.range_ends import edge_of, share_of_range, widened


def test_share_of_range_golden() -> None:
    assert share_of_range(Float(0.01, 1.0, log=True), 0.1) == pytest.approx(0.5)
    assert share_of_range(Int(2, 10), 4) == 0.25


@pytest.mark.parametrize(
    ("domain", "value", "end"),
    [
        (Float(0.02, 0.25, log=True), 0.248, "upper"),
        (Float(0.02, 0.25, log=True), 0.2, ""),
        (Float(0.0, 1.0), 0.05, "lower"),
        (Float(0.0, 1.0), 0.051, ""),
        (Int(2, 10), 10, "upper"),
        (Int(2, 10), 9, ""),
        (Choice(("a", "b")), "b", ""),
        (Int(2, 10), None, ""),
    ],
)
def test_edges(domain: Float | Int | Choice, value: object, end: str) -> None:
    assert edge_of(domain, value) == end


@pytest.mark.parametrize(
    ("key", "domain", "end", "wider"),
    [
        (
            "lr",
            Float(0.01, 1.0, log=True),
            "upper",
            Float(0.01, 10.0, log=True),
        ),  # sqrt(100) = 10 times as far
        ("lr", Float(0.01, 1.0, log=True), "lower", Float(0.001, 1.0, log=True)),
        ("attack.steps", Int(2, 10), "upper", Int(2, 14)),
        (
            "attack.steps",
            Int(2, 10),
            "lower",
            None,
        ),  # 2 - 4 is cut off at 0, and at least one step is allowed
        ("attack.epsilon", Float(0.02, 0.25, log=True), "upper", Float(0.02, 0.88, log=True)),
        ("attack.epsilon", Float(0.1, 0.9), "upper", None),  # 1.3: no radius is larger than 1
        ("outliers.weight", Float(0.5, 2.0), "lower", Float(0.0, 2.0)),
        ("outliers.weight", Float(0.0, 2.0), "lower", None),  # it begins at 0 already
    ],
)
def test_a_wider_range_by_hand(key: str, domain: Float | Int, end: str, wider: Float | Int | None) -> None:
    assert widened(domain, end, "aoe", key) == wider
