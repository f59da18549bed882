"""Names of MLflow runs."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.study_results import plan, record
from tuner.tracking.run_names import run_name

FOUND = {
    "attack.epsilon": 0.1421,
    "attack.name": "pgd",
    "attack.steps": 7,
    "lr": 0.00012,
    "outliers.sigma": 3.69,
}


@pytest.mark.parametrize(
    ("params", "effects", "name"),
    [
        (FOUND, ("outliers.sigma", "attack.name", "attack.epsilon"), "t16 pgd sigma 3.7 eps .14"),
        (FOUND, ("attack.name", "attack.epsilon"), "t16 pgd eps .14"),
        (FOUND, (), "t16 pgd eps .14 steps 7"),  # the first three
        ({"lr": 0.00012}, ("attack.name", "lr"), "t16 lr .00012"),
        ({"lr": 0.00001}, ("lr",), "t16 lr 1e-05"),
        ({"nesterov": True}, ("nesterov",), "t16 nesterov True"),
        ({}, (), "t16 aoe"),
    ],
)
def test_a_trial_is_named_by_what_the_study_asks_about(
    params: dict[str, Any], effects: tuple[str, ...], name: str
) -> None:
    assert run_name(record(16, params=params, method="aoe"), plan(effects=effects)) == name


def test_other_lanes_and_arms() -> None:
    study = plan()
    assert run_name(record(3, lane="oe", params={"outliers.sigma": 1.23}), study) == "oe t3 sigma 1.2"
    confirmed = record(4, lane="confirm", arm="gauss", seed_index=2)
    assert run_name(confirmed, study) == "gauss seed 2"
    assert run_name(replace(confirmed, arm="best"), study) == "winner seed 2"
