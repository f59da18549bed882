"""A study of a network of the user's own, from a folder that holds nothing else: run, confirmed, logged, resumed."""

import pytest

from tests.integration.conftest import Launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOURCE = """
from torch import nn
from blocks import block

def make(classes, channels, size):
    return nn.Sequential(block(channels), nn.Flatten(), nn.Linear(8 * size * size, classes))
"""
BLOCKS = """
from torch import nn

def block(channels):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
"""


def test_a_study_of_an_own_network(launcher: Launcher) -> None:
    """Two files reach the workers; the winner is logged as a model; a resume wants the same code."""
    (launcher.folder / "my_net.py").write_text(SOURCE)
    (launcher.folder / "blocks.py").write_text(BLOCKS)
    settings = ["network=./my_net.py:make", "pretrain.epochs=1", "outliers.count=100"]
    words = [word for text in settings for word in ("--set", text)]
    small = ["--trials", "2", "--max-epochs", "1", "--confirm-seeds", "1", "--stages", "search"]
    done = launcher.run("--study", "aoe_sigma", "--run-name", "own", *small, *words)
    assert done.code == 0, done.err

    (launcher.folder / "blocks.py").write_text(f"{BLOCKS}# changed\n")
    refused = launcher.run("--resume", "own")
    assert refused.code == 2
    assert refused.err.startswith(f"launch.py: {launcher.folder}/blocks.py has changed since run own began")

    (launcher.folder / "blocks.py").write_text(BLOCKS)
    resumed = launcher.run("--resume", "own", "--stages", "evaluate,report")
    assert resumed.code == 0, resumed.err
    assert "winner: trial" in resumed.out
    assert "not logged" not in resumed.out
