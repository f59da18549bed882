"""The schedules of the learning rate by hand: the factor is a pure function of the step."""

import pytest

from trainables.options.common import TrainingOptions
from trainables.training.method import schedule_factor


def factors(*steps: int, **values: object) -> list[float]:
    return [schedule_factor(TrainingOptions(epochs=10, **values), step, 100) for step in steps]  # type: ignore[arg-type]


def test_one_cycle_rises_over_the_first_three_tenths_and_falls_by_a_cosine() -> None:
    """1/25, half of the way 0.52, the top at step 300, half of the fall 0.5 at step 650, 0 at the end."""
    assert factors(0, 150, 300, 650, 1000) == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])


def test_the_rise_has_the_length_of_warmup() -> None:
    """2.5 % of 1000 steps: the top at step 25, half of the fall at 25 + 975 / 2; without it the fall begins at once."""
    assert factors(0, 25, warmup=0.025) == pytest.approx([0.04, 1.0])
    assert sum(factors(512, 513, warmup=0.025)) / 2 == pytest.approx(0.5)
    assert factors(0, 500, 1000, warmup=0.0) == pytest.approx([1.0, 0.5, 0.0])


def test_the_default_is_bit_for_bit_what_it_was() -> None:
    import math

    for step in range(0, 1001, 7):
        progress = step / 1000
        rise = 1 / 25 + (1 - 1 / 25) * progress / 0.3
        fall = 0.5 * (1 + math.cos(math.pi * (progress - 0.3) / 0.7))
        assert factors(step) == [rise if progress < 0.3 else fall]


def test_other_schedules_know_no_warmup() -> None:
    assert factors(0, 500, schedule="cosine", warmup=0.9) == factors(0, 500, schedule="cosine")
