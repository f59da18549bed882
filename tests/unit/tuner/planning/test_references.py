"""Registered samplers and attacks whose code is not there are refused by the plan, before anything starts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from trainables.options.attacks import OUTLIER_ATTACKS
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.search.sampler_specs import SAMPLERS


@pytest.fixture
def registered() -> Iterator[None]:
    SAMPLERS.register(replace(SAMPLERS["random"], name="mine", make="tuner.search.samplers:randm"))
    OUTLIER_ATTACKS.register(replace(OUTLIER_ATTACKS["fgsm"], name="mine", objective="my_losses:loss"))
    yield
    SAMPLERS.unregister("mine")
    OUTLIER_ATTACKS.unregister("mine")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            LaunchOptions("aoe_sigma", sampler="mine"),
            r"^make of 'mine' is tuner.search.samplers:randm, but tuner.search.samplers has no randm; "
            r"did you mean random\? known: ",
        ),
        (
            LaunchOptions("aoe_sigma", settings=("attack.name=choice(fgsm, mine)",)),
            r"^objective of 'mine' is my_losses:loss, but there is no module my_losses$",
        ),
    ],
)
def test_code_that_is_not_there_is_found_by_the_plan(
    registered: None, options: LaunchOptions, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(options, "run")
