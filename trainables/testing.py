"""The contract of a training method as tests: what a study relies on. In a test file of pytest:

    from trainables.testing import MethodContract

    class TestMine(MethodContract):
        method = "./mine.py:Mine"

Needs no pytest itself. The methods of this project pass the same checks.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from trainables.base.errors import InputError
from trainables.base.storage import Folder
from trainables.base.user_code import name_codes
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.options import fields_of
from trainables.options.methods import METHODS
from trainables.ray.study_trainable import StudyTrainable
from trainables.ray.trainable import trainable_class
from trainables.training import checkpoints

EPOCHS = 3
#: A trial of seconds: six digits as classes, the other four as OOD data.
COMMON: Mapping[str, Any] = {
    "dataset": "digits-open",
    "epochs": EPOCHS,
    "seed": 5,
    "validation": {"groups": ("clean", "ood")},
}
#: What shortens a trial of a method that has the option.
SHORT: Mapping[str, Any] = {
    "pretrain.epochs": 2,
    "outliers.count": 80,
    "attack_steps": 2,
    "steps": 2,
    "retrain_iters": 5,
    "fab.iterations": 3,
}


class MethodContract:
    """The checks of one method, for a subclass whose name begins with "Test".

    Attributes:
        method: a name of `trainables.options.methods.METHODS`, the class itself, or a reference to it: `module:Class`
            or `./file.py:Class`, as seen from the folder in which pytest was started.
        options: of its trials, to try others than the defaults or to make an epoch shorter.
    """

    method: ClassVar[Any] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    def test_trials(self, tmp_path: Path) -> None:
        check_trials(self.method, tmp_path, self.options)

    def test_a_trial_after_one_of_another_method(self, tmp_path: Path) -> None:
        check_after_another_method(self.method, tmp_path, self.options)

    def test_unknown_options_are_refused(self, tmp_path: Path) -> None:
        check_unknown_options(self.method, tmp_path, self.options)


def name_of(method: Any) -> str:
    """Return the name of a method that is given as `MethodContract.method` has it.

    Raises:
        InputError: there is no such method, or a class that no module has under its name.
    """
    if not isinstance(method, str):
        method = f"{method.__module__}:{method.__qualname__}"
    name_codes([method])  # whoever runs the test names the code
    return METHODS[method].name


def config_of(method: str, folder: Path, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration of a trial of seconds.

    Args:
        folder: for pretrained weights and generators.
        options: put over it.
    """
    known = fields_of(METHODS[method].options)
    short = {key: value for key, value in SHORT.items() if key in known}
    return {**COMMON, "cache_dir": str(folder), **short, **(options or {})}


def trial_of(method: str, folder: Path, options: Mapping[str, Any] | None = None) -> Any:
    """Return the Ray Trainable of a trial of seconds, built in this process."""
    return trainable_class(method)(config=config_of(method, folder, options))


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what must be the same whenever the same epoch is trained: metrics and costs but for the time."""
    return {k: v for k, v in result.items() if k.startswith(("val/", "train/")) or k in ("epoch", "passes")}


# -- the checks --------------------------------------------------------------------------------------------


def check_trials(method: Any, folder: Path, options: Mapping[str, Any] | None = None) -> None:
    """Check a trial that runs through, one that is resumed after its first epoch, and one after another seed's.

    All must report the same numbers, within the ranges of their metrics, and a checkpoint must hold nothing but tensors
    and plain values.
    """
    name = name_of(method)
    whole = trial_of(name, folder, options)
    truth = [_reported(whole.step(), epoch) for epoch in range(1, EPOCHS + 1)]
    passes = [0.0, *(result["passes"] for result in truth)]
    assert all(a < b for a, b in itertools.pairwise(passes)), (
        f"passes are {passes[1:]}; train_epoch must add the forward passes per image that an epoch costs"
    )

    first = trial_of(name, folder, options)
    _same(numbers(first.step()), truth[0], "a second trial of the same seed")
    first.save_checkpoint(str(folder))
    _check_classifier(first, folder)
    torch.rand(7)  # whatever happens between must not matter
    second = trial_of(name, folder, options)
    second.load_checkpoint(str(folder))
    for epoch in range(1, EPOCHS):
        _same(
            numbers(second.step()),
            truth[epoch],
            f"a trial that was resumed after epoch 1, in epoch {epoch + 1}",
        )
    resumed = second._method.classifier().state_dict()
    for key, value in whole._method.classifier().state_dict().items():
        assert torch.equal(value, resumed[key]), (
            f"{key} differs after a resume: state_dict must hold all of the state"
        )

    other = trial_of(name, folder, {**(options or {}), "seed": 99})
    assert numbers(other.step()) != truth[0], (
        "another seed gives the same numbers; draw from the method's streams"
    )
    assert other.reset_config(config_of(name, folder, options))
    _same(numbers(other.step()), truth[0], "a trial after another of its method in one process")


def _reported(result: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """Return the numbers of an epoch's report after checking that a study can use them."""
    assert result["epoch"] == epoch, f"epoch {epoch} is reported as {result['epoch']}"
    assert result["done"] is (epoch == EPOCHS), f"done is {result['done']} after epoch {epoch} of {EPOCHS}"
    assert "train/loss" in result, 'train_epoch must return "loss"'
    for name in (numbers(result).keys() | {"seconds", "seconds_validation"}) - {"epoch"}:
        value, spec = result[name], find_metric(name).spec
        assert spec.low <= value <= spec.high, f"{name} is {value}, not from {spec.low} to {spec.high}"
    return numbers(result)


def _check_classifier(trial: Any, folder: Path) -> None:
    """Check that the checkpoint of a trial can be read safely, and holds the classifier that was trained."""
    content = checkpoints.unpack(Folder(str(folder)).read("trial.pt"), "the checkpoint")
    images = torch.rand(4, *content["dataset"]["shape"], generator=torch.Generator().manual_seed(0))
    trained = trial._method.classifier()
    was = trained.training
    with torch.no_grad():
        expected, found = trained.eval()(images), checkpoints.classifier_of(content)(images)
    trained.train(was)
    assert torch.equal(expected, found), (
        "the classifier of a checkpoint computes something else than the trained one"
    )


def check_after_another_method(method: Any, folder: Path, options: Mapping[str, Any] | None = None) -> None:
    """Check that a trial is the same after one of another method in its process, as arms of a study are."""
    name = name_of(method)
    truth = numbers(trial_of(name, folder, options).step())
    plain, config = config_of("standard", folder), config_of(name, folder, options)
    service = {"key": "x", "pretrain_seed": config["seed"], "folder": str(folder), "checkpoint": ""}
    actor = StudyTrainable(config={**plain, "_service": {**service, "method": "standard"}})
    actor.step()
    actor.reset_config({**config, "_service": {**service, "method": name}})
    result = actor.step()
    assert "failed" not in result, result.get("failed")
    _same(numbers(result), truth, "a trial after one of another method in its process")


def check_unknown_options(method: Any, folder: Path, options: Mapping[str, Any] | None = None) -> None:
    """Check that an option which the method does not have is refused by its name."""
    said = ""
    try:
        trial_of(name_of(method), folder, {**(options or {}), "frobnicate": 1})
    except InputError as error:
        said = str(error)
    assert "unknown option 'frobnicate'" in said, said or "an unknown option was accepted"


def _same(found: Mapping[str, float], truth: Mapping[str, float], what: str) -> None:
    for key in truth.keys() | found.keys():
        assert found.get(key) == truth.get(key), f"{what}: {key} is {found.get(key)}, not {truth.get(key)}"
