"""`trainables.testing`: a sound method of a user's own passes, and each promise that a method breaks is told."""

import sys
from pathlib import Path

import pytest

from tests.unit.own_files import FILES
from trainables.base.errors import DataFileError, InputError
from trainables.testing import MethodContract, check_trials, name_of

pytestmark = pytest.mark.timeout(300)

BROKEN = """
import random
from own_method import Mixup, MixupOptions

class AtRandom(Mixup):
    def loss(self, images, labels):
        return super().loss(images * random.SystemRandom().random(), labels)

class Forgetful(Mixup):
    seen = 0

    def train_epoch(self, epoch):
        self.seen += 1
        return {**super().train_epoch(epoch), "seen": float(self.seen)}

class Costless(Mixup):
    def end_epoch(self, epoch):
        return self.trainer.epoch_means()

class Silent(Mixup):
    def train_epoch(self, epoch):
        super().train_epoch(epoch)
        return {}

class Pickled(Mixup):
    def state_dict(self):
        return {**super().state_dict(), "options": self.options}

class SeedBlind(Mixup):
    def __init__(self, options, context):
        context.streams.seed = 0
        super().__init__(options, context)

class Untyped(Mixup):
    options: dict
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {**FILES, "broken.py": BROKEN}.items():
        (tmp_path / name).write_text(text)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_class_of_tests_passes(folder: Path) -> None:
    """As a user's test file has it; the class itself, and its path."""
    from own_method import Mixup  # type: ignore[import-not-found]

    assert name_of(Mixup) == "own_method:Mixup"
    assert name_of("./own_method.py:Mixup") == f"{folder}/own_method.py:Mixup"
    suite = type(
        "TestMixup", (MethodContract,), {"method": Mixup, "options": {"epochs": 3, "batch_size": 128}}
    )
    for name in (name for name in dir(suite) if name.startswith("test_")):
        getattr(suite(), name)(folder)


@pytest.mark.parametrize(
    ("method", "error", "says"),
    [
        ("AtRandom", AssertionError, "a second trial of the same seed: .* is "),
        (
            "Forgetful",
            AssertionError,
            "a trial that was resumed after epoch 1, in epoch 2: train/seen is 1.0, not 2.0",
        ),
        ("Costless", AssertionError, "passes are .*; train_epoch must add the forward passes per image"),
        ("Silent", AssertionError, 'train_epoch must return "loss"'),
        (
            "Pickled",
            DataFileError,
            "not a readable checkpoint: damaged, or it holds more than tensors and plain values",
        ),
        ("SeedBlind", AssertionError, "another seed gives the same numbers; draw from the method's streams"),
        ("Untyped", InputError, "the options of Untyped are the class dict; annotate them with a dataclass"),
    ],
)
def test_a_broken_promise_is_told(method: str, error: type[Exception], says: str, folder: Path) -> None:
    with pytest.raises(error, match=says):
        check_trials(f"./broken.py:{method}", folder, {"batch_size": 256})
