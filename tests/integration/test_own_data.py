"""A study on data of the user's own, from a folder that holds nothing else: run, reported, resumed, refused."""

import json

import pytest

from tests.integration.conftest import Launcher
from trainables.training import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOURCE = '''
"""The digits 0 to 5, the others as near OOD."""
import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset, random_split

class Digits(Dataset):
    classes = "zero one two three four five".split()

    def __init__(self, digits):
        data = load_digits()
        keep = [i for i, y in enumerate(data.target) if y in digits]
        self.images = torch.tensor(data.images[keep] / 16, dtype=torch.float32)[:, None]
        self.targets = data.target[keep].tolist()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.images[i], self.targets[i]

def make():
    train, test = random_split(Digits(range(6)), [700, 383])
    return {"train": train, "test": test, "near": {"unseen": Digits(range(6, 10))}}
'''


def test_a_study_of_own_data(launcher: Launcher) -> None:
    """The function is called by workers; names of classes reach report and checkpoint; a resume wants the same code."""
    path = launcher.folder / "my_digits.py"
    path.write_text(SOURCE)
    settings = ["pretrain.epochs=1", "outliers.count=100"]
    words = [word for text in settings for word in ("--set", text)]
    small = ["--trials", "2", "--max-epochs", "1", "--confirm-seeds", "1", "--stages", "search"]
    done = launcher.run(
        "--study", "aoe_sigma", "--run-name", "own", "--dataset", "./my_digits.py:make", *small, *words
    )
    assert done.code == 0, done.err
    run = launcher.folder / "runs" / "own"
    plan = json.loads((run / "plan.json").read_text())
    assert plan["classes"] == ["zero", "one", "two", "three", "four", "five"]
    assert list(plan["plan"]["code"]) == [str(path)]
    file = next((run / "checkpoints").rglob("*.pt"))
    assert checkpoints.info_of(checkpoints.unpack(file.read_bytes(), file.name)).classes == tuple(
        plan["classes"]
    )

    path.write_text(SOURCE.replace("[700, 383]", "[701, 382]"))
    refused = launcher.run("--resume", "own")
    assert refused.code == 2
    assert refused.err.startswith(f"launch.py: {path} has changed since run own began")

    path.write_text(SOURCE)
    resumed = launcher.run("--resume", "own", "--stages", "evaluate,report")
    assert resumed.code == 0, resumed.err
    assert "zero, one, two, three, four, five" in (run / "report.md").read_text()
