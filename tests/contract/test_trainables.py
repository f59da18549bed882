"""What every Trainable must pass: setup, step, save, load, reset_config, bit-exact resume, unknown keys, resources."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.base.errors import InputError
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.options import fields_of
from trainables.options.methods import METHODS
from trainables.ray.trainable import trainable_class

pytestmark = pytest.mark.timeout(300)

COMMON: dict[str, Any] = {
    "dataset": "digits-open",
    "epochs": 3,
    "seed": 5,
    "validation": {"groups": ("clean", "ood")},
}
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


def config(method: str, cache: str, **more: Any) -> dict[str, Any]:
    found = {**COMMON, "cache_dir": cache, **SMALL[method], **more}
    known = fields_of(METHODS[method].options)
    short = {
        "pretrain.epochs": 2,
        "outliers.count": 80,
        "attack_steps": 2,
        "steps": 2,
        "retrain_iters": 5,
        "fab.iterations": 3,
    }
    return found | {k: v for k, v in short.items() if k in known and k not in found}


def make(method: str, cache: str, **more: Any) -> Any:
    return trainable_class(method)(config=config(method, cache, **more))


def weights(trainable: Any) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainable._method.classifier().state_dict().items()}


def numbers(result: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in result.items() if k.startswith(("val/", "train/")) or k in ("epoch", "passes")}


def test_every_method_is_listed() -> None:
    assert set(SMALL) == set(METHODS.names)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(SMALL))
def test_contract(method: str, cache: str, tmp_path: Path) -> None:
    """One trial through, one interrupted after its first epoch, and one in a reused actor: all the same."""
    whole = make(method, cache)
    results = [whole.step() for _ in range(3)]
    assert [r["epoch"] for r in results] == [1, 2, 3]
    assert [r["done"] for r in results] == [False, False, True]
    for result in results:
        assert 0 <= result["val/accuracy/clean"] <= 1
        assert result["passes"] > 0
        assert "train/loss" in result
        for name in (numbers(result).keys() | {"seconds", "seconds_validation"}) - {"epoch"}:
            spec = find_metric(name).spec
            assert spec.low <= result[name] <= spec.high, name
    truth = [numbers(r) for r in results]

    first = make(method, cache)
    assert numbers(first.step()) == truth[0]
    first.save_checkpoint(str(tmp_path))
    torch.rand(7)  # whatever happens between must not matter
    second = make(method, cache)
    second.load_checkpoint(str(tmp_path))
    assert [numbers(second.step()), numbers(second.step())] == truth[1:]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name

    other = make(method, cache, seed=99)
    other.step()
    assert other.reset_config(config(method, cache))
    assert numbers(other.step()) == truth[0]


@pytest.mark.parametrize("method", sorted(SMALL))
def test_unknown_keys_are_refused(method: str, cache: str) -> None:
    with pytest.raises(InputError, match="unknown option 'frobnicate'"):
        make(method, cache, frobnicate=1)


@pytest.mark.parametrize("method", sorted(SMALL))
def test_resources(method: str) -> None:
    """A CPU per thread by default; a GPU share by `with_resources`, also where there is no GPU yet."""
    from ray import tune

    cls = trainable_class(method)
    assert cls.default_resource_request({"threads": 2}).required_resources == {"CPU": 2}
    wrapped = tune.with_resources(cls, {"cpu": 1, "gpu": 0.25})
    assert wrapped.default_resource_request({}).required_resources == {"CPU": 1, "GPU": 0.25}


def test_reused_actors_leak_no_state_between_methods(cache: str) -> None:
    """A study's actor trains another method after the first, as arms do."""
    from trainables.ray.trainable import StudyTrainable

    fresh = make("oe", cache)
    truth = numbers(fresh.step())
    service = {"key": "x", "pretrain_seed": 5, "folder": "", "checkpoint": ""}
    actor = StudyTrainable(
        config={**config("standard", cache), "_service": {**service, "method": "standard"}}
    )
    actor._folder = None
    actor.step()
    actor.reset_config({**config("oe", cache), "_service": {**service, "method": "oe"}})
    actor._folder = None
    assert numbers(actor.step()) == truth
