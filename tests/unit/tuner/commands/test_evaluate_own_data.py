"""`launch.py --evaluate` on data of the user's own: named now, or by a checkpoint alone."""

import json
from pathlib import Path

import pytest

from trainables import StandardTrainable
from trainables.base.user_code import APPROVED
from trainables.data.loading import own_factory
from trainables.training import checkpoints
from tuner import cli

SOURCE = """
import numpy as np

def make():
    labels = np.arange(60) % 2
    images = np.random.default_rng(0).integers(0, 80, (60, 8, 8)).astype(np.uint8) + 120 * labels[:, None, None]
    images = images.astype(np.uint8)
    return {"train": (images[:40], labels[:40]), "test": (images[40:], labels[40:]), "classes": ["dark", "light"]}
"""


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier of the data that `own_shades.py` gives, trained with plain Ray Tune's class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(APPROVED, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    own_factory.forget()
    (tmp_path / "own_shades.py").write_text(SOURCE)
    trial = StandardTrainable(
        config={"dataset": "./own_shades.py:make", "epochs": 2, "validation": {"groups": ("clean",)}}
    )
    trial.step()
    assert trial._method is not None
    path = tmp_path / "one.pt"
    path.write_bytes(checkpoints.pack("standard", trial._method, 2, trial._data.info))
    monkeypatch.setenv(APPROVED, "")
    own_factory.forget()
    return path


def launch(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(["--evaluate", "one.pt", "--protocol", "quick", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_is_known_of_the_data_is_in_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    info = checkpoints.info_of(checkpoints.unpack(checkpoint.read_bytes(), "one.pt"))
    assert (info.name, info.classes) == (f"{tmp_path}/own_shades.py:make", ("dark", "light"))
    assert (info.shape, info.crop, info.mean, info.std) == ((1, 8, 8), 1.0, (0.485,), (0.229,))


def test_data_that_only_a_checkpoint_names_are_not_run(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = launch(capsys)
    assert (code, out) == (2, "")
    file = f"{tmp_path}/own_shades.py"
    assert err.startswith(
        f"launch.py: dataset {file}:make: {file} is not code that you have launched with; look at it, "
    )
    assert err.count("\n") == 1


def test_data_that_the_user_names_are_scored(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = launch(capsys, "--dataset", "./own_shades.py:make", "--json")
    assert code == 0, err
    named = json.loads(out)
    assert 0 <= named["metrics"]["test/accuracy/clean"] <= 1
    assert named["dataset"].endswith("/own_shades.py:make")
    code, out, err = launch(capsys, "--json")  # named before
    assert code == 0, err
    assert json.loads(out)["metrics"] == named["metrics"]
