"""Every method's epoch means are metrics with a spec, in their range, and every spec of a training term is emitted."""

from functools import cache
from typing import Any

import pytest

from tests.unit import toy
from trainables.evaluation.metrics.metric_family import TRAINING
from trainables.evaluation.metrics.metric_specs import METRICS, find_metric
from trainables.options import build, fields_of
from trainables.options.methods import METHODS

#: Small values of whichever of these options a method has.
SMALL: dict[str, Any] = {
    "epochs": 2, "batch_size": 32, "seed": 5, "attack.steps": 1, "outliers.ratio": 0.5, "retrain_iters": 2,
    "burn_in_epochs": 1, "boundary.steps": 2, "speed_images": 4, "greg.weight": 0.1, "rounds": 1,
    "nz": 8, "ngf": 8, "ndf": 8, "ft.share": 0.5, "ft.lambda_f": 0.1, "guards.enabled": False, "judged": True,
}  # fmt: skip


@cache
def terms(method: str) -> dict[str, float]:
    spec = METHODS[method]
    known = fields_of(spec.options)
    options = build(spec.options, {key: value for key, value in SMALL.items() if key in known})
    trained = spec.load_method()(options, toy.context(5, toy.pretrained))
    return {f"train/{name}": value for epoch in (0, 1) for name, value in trained.train_epoch(epoch).items()}


@pytest.mark.parametrize("method", METHODS.names)
def test_the_terms_of_a_method_have_specs(method: str) -> None:
    found = terms(method)
    assert "train/loss" in found
    for name, value in found.items():
        spec = find_metric(name).spec
        assert spec.low <= value <= spec.high, name


def test_no_spec_is_left_over() -> None:
    emitted = {name.removeprefix("train/") for method in METHODS.names for name in terms(method)}
    assert emitted == {spec.name for spec in METRICS if spec.group == TRAINING}
