"""A trial whose code is not what was launched with: it halts the study, since the trial is not at fault."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.own_files import METHOD, NETWORK
from trainables.base.user_code import APPROVED, UserCode, name_code
from trainables.ray.trial_runner import TrialRunner


def first_report(folder: Path, method: str) -> dict[str, Any]:
    """Return what a trial of a study reports first, in a process that has imported nothing of the user's yet."""
    service = {"key": "0000", "method": method, "folder": str(folder), "checkpoint": ""}
    small = {"dataset": "digits-open", "epochs": 1, "batch_size": 256, "validation": {"groups": ("clean",)}}
    trial = TrialRunner()
    trial.setup({**small, "network": f"{folder}/net.py:network", "_service": service})
    return trial.step()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "method.py").write_text(METHOD)
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("method", "net"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv(APPROVED, "")
    for name in ("method.py:Mixup", "net.py:network"):
        name_code(f"{tmp_path}/{name}")  # by the launch
    return tmp_path


def test_it_trains_as_long_as_the_code_is_what_it_was(folder: Path) -> None:
    assert "train/loss" in first_report(folder, f"{folder}/method.py:Mixup")
    (folder / "method.py").write_text(f"{METHOD}# changed while the study runs\n")
    report = first_report(folder, f"{folder}/method.py:Mixup")  # this process has imported what it was
    assert "train/loss" in report


@pytest.mark.parametrize("file", ["method.py", "net.py"])
@pytest.mark.parametrize("change", [lambda path: path.write_text(path.read_text() + "#"), Path.unlink])
def test_what_was_changed_or_removed_halts_the_study(file: str, change: Any, folder: Path) -> None:
    change(folder / file)
    report = first_report(folder, f"{folder}/method.py:Mixup")
    assert report["halted"].startswith("cannot go on without its code (")
    assert str(folder / file) in report["halted"]
    assert "\n" not in report["halted"]


def test_a_file_that_is_written_half_halts_the_study(folder: Path) -> None:
    (folder / "method.py").write_text("class Mixup(:")
    assert "is not Python" in first_report(folder, f"{folder}/method.py:Mixup")["halted"]
    assert UserCode(f"{folder}/net.py:network").unapproved == ""
