"""A network of the user's own in a trial, by the path of its file: trained, resumed, attacked in bf16, packed."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.packed import Replica, train_together
from trainables.ray.trainable import trainable_class

SOURCE = """
from torch import nn

def make(classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes)
    )

class Net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * size * size, classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().flatten(1))

class Branching(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else x + 0)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a short trial in a folder that holds the network."""
    (tmp_path / "own_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    return {
        "dataset": "digits-open",
        "network": "./own_net.py:Net",
        "epochs": 2,
        "seed": 5,
        "cache_dir": str(tmp_path / "cache"),
        "pretrain.epochs": 1,
        "outliers.count": 80,
        "attack.steps": 2,
        "validation": {"groups": ("clean", "ood")},
    }


def numbers(result: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in result.items() if k.startswith(("val/", "train/"))}


def test_it_is_trained_and_resumed_to_the_last_bit(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aoe = trainable_class("aoe")
    whole = aoe(config=dict(config))
    truth = [numbers(whole.step()), numbers(whole.step())]
    assert truth[1]["train/loss"] < truth[0]["train/loss"]
    first = aoe(config=dict(config))
    assert numbers(first.step()) == truth[0]
    first.save_checkpoint(str(tmp_path))
    kept = {**config, "network": str(first._method.options.network)}
    monkeypatch.chdir("/")  # as in a worker: the path is absolute
    second = aoe(config=kept)
    second.load_checkpoint(str(tmp_path))
    assert numbers(second.step()) == truth[1]
    assert second._method.network.body.head_name == "fc"


def test_it_is_attacked_in_bf16(config: dict[str, Any]) -> None:
    trial = trainable_class("aoe")(config={**config, "precision": "bf16"})
    assert trial.step()["train/loss"] > 0
    copied = trial._method.attacked(trial._method.network)
    assert copied.body.inner.layers.conv.weight.dtype is torch.bfloat16


@pytest.mark.parametrize(("network", "stacked"), [("Net", True), ("Branching", False)])
def test_it_is_packed_where_it_can_be_mapped_and_trained_alone_where_not(
    config: dict[str, Any], network: str, stacked: bool
) -> None:
    more = {"network": f"./own_net.py:{network}", "attack.name": "none"}
    trials = [trainable_class("aoe")(config={**config, **more, "lr": lr}) for lr in (1e-3, 3e-3)]
    trials[1]._method.loader.images = trials[0]._method.loader.images
    outcomes = train_together([Replica("aoe", trial._method, 0) for trial in trials])
    assert [outcome.error for outcome in outcomes] == [None, None]
    for outcome in outcomes:
        assert outcome.means["loss"] > 0
        assert bool(outcome.remark) is not stacked
        assert outcome.remark.startswith(
            "" if stacked else "trained alone: its pack of 2 raised RuntimeError: "
        )


def test_layers_may_take_their_shape_from_the_first_batch(config: dict[str, Any]) -> None:
    """They become what they are in the trial run of two images."""
    trial = trainable_class("standard")(
        config={**{k: config[k] for k in ("dataset", "epochs")}, "network": "./own_net.py:make"}
    )
    assert trial._method.network.head.weight.shape == (6, 512)
