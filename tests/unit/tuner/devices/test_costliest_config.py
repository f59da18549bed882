"""The configuration of a lane that costs most: every domain at its most expensive value."""

import pytest

import search_spaces
from search_spaces.domain import Choice, Domain, Float, Int, Value
from trainables.base.errors import InputError
from trainables.options import build, fields_of
from trainables.options.methods import METHODS
from tuner.devices.costliest_config import costliest, costliest_configuration
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve


@pytest.mark.parametrize(
    ("key", "domain", "value"),
    [
        ("attack.steps", Int(2, 10), 10),
        ("batch_size", Choice((256, 32, 64)), 256),
        ("lr", Float(1e-4, 1e-2, log=True), pytest.approx(1e-3)),
        ("attack.epsilon", Float(0.1, 0.3), pytest.approx(0.2)),
        ("outliers.ratio", Float(0.5, 2.0), 2.0),
        ("outliers.ratio", Choice((2.0, 0.5)), 2.0),
        ("attack.name", Choice(("eba", "pgd", "gauss")), "pgd"),
        ("precision", Choice(("float32", "bf16")), "float32"),
        ("optimizer", Choice(("adam", "sgd")), "adam"),
        ("inlier_attack.name", Choice(("energy", "none")), "energy"),
        ("network", Choice(("wrn_40_2", "small_cnn")), "wrn_40_2"),
        ("energy.trainable", Choice(("all", "head")), "all"),
        ("boundary.quality_filter", Choice((True, False)), True),
        ("attack.schedule", Choice(("constant", "up")), "up"),
    ],
)
def test_the_costliest_value(key: str, domain: Domain, value: Value) -> None:
    method = (
        "energy"
        if key.startswith(("energy", "outliers"))
        else "dyart"
        if key.startswith("boundary")
        else "aoe"
    )
    (field, _, _) = fields_of(METHODS[method].options)[key]
    assert costliest(domain, field.metadata["cost"]) == value


def test_values_that_no_registry_knows_are_refused() -> None:
    for key, known in (("network", "wrn_40_2"), ("attack.name", "pgd"), ("inlier_attack.name", "ce")):
        cost = fields_of(METHODS["aoe"].options)[key][0].metadata["cost"]
        with pytest.raises(InputError, match="unknown"):
            costliest(Choice((known, "nowhere")), cost)


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_the_largest_configuration_of_every_study_is_one(name: str) -> None:
    plan = resolve(LaunchOptions(name), "r", "c")
    for lane in plan.lanes:
        configuration = costliest_configuration(lane, 7)
        options = build(METHODS[lane.method].options, configuration)
        assert options.seed == 7
        assert all(configuration[key] in domain for key, domain in lane.space.items())
