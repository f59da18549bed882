"""What every Trainable must pass: setup, step, save, load, reset_config, bit-exact resume, unknown keys, resources."""

from pathlib import Path
from typing import Any

import pytest

from trainables import testing
from trainables.options.methods import METHODS
from trainables.ray.trainable import trainable_class

pytestmark = pytest.mark.timeout(300)

#: What keeps each method's epochs short; every method must be listed here.
SMALL: dict[str, dict[str, Any]] = {
    "standard": {},
    "oe": {},
    "aoe": {
        "attack.name": "eba_pgd",
        "attack.steps": 2,
        "inlier_attack.name": "ce",
        "inlier_attack.steps": 1,
    },
    "pretrained": {},
    "energy": {},
    "ant": {},
    "noise_augment": {},
    "robgan": {},
    "dyart": {},
    "pgd_at": {},
    "trades": {},
    "mart": {},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def test_every_method_is_listed() -> None:
    assert set(SMALL) == set(METHODS.names)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(SMALL))
def test_contract(method: str, cache: str, tmp_path: Path) -> None:
    """One trial through, one interrupted after its first epoch, and one in a reused actor: all the same."""
    testing.check_trials(method, tmp_path, {**SMALL[method], "cache_dir": cache})


def test_reused_actors_leak_no_state_between_methods(cache: str, tmp_path: Path) -> None:
    """A study's actor trains another method after the first, as arms do."""
    testing.check_after_another_method("oe", tmp_path, {"cache_dir": cache})


@pytest.mark.parametrize("method", sorted(SMALL))
def test_unknown_keys_are_refused(method: str, tmp_path: Path) -> None:
    testing.check_unknown_options(method, tmp_path, SMALL[method])


@pytest.mark.parametrize("method", sorted(SMALL))
def test_resources(method: str) -> None:
    """A CPU per thread by default; a GPU share by `with_resources`, also where there is no GPU yet."""
    from ray import tune

    cls = trainable_class(method)
    assert cls.default_resource_request({"threads": 2}).required_resources == {"CPU": 2}
    wrapped = tune.with_resources(cls, {"cpu": 1, "gpu": 0.25})
    assert wrapped.default_resource_request({}).required_resources == {"CPU": 1, "GPU": 0.25}
