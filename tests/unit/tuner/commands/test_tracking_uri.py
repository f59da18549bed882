"""Which MLflow store a resume writes to: that of the run, wherever it is called from, if the user has named it."""

import os
from pathlib import Path

import pytest

from tests.unit.runs import StoredRun
from tuner.base.errors import UsageError
from tuner.commands.tracking_uri import remember, tracking_uri
from tuner.planning.launch_options import LaunchOptions
from tuner.store.run_folder import RunFolder

RESUME = LaunchOptions("aoe_sigma", resume="one")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return StoredRun(tmp_path_factory.mktemp("launched") / "runs").folder


@pytest.fixture
def run(stored: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Return a run, called from another folder than it was launched in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    return stored


@pytest.mark.parametrize("uri", ["sqlite:////launched/mlflow.db", "http://h:5000", "postgresql://me@h/db"])
def test_a_resume_goes_on_in_the_store_of_the_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    run.update(tracking_uri=uri)
    with pytest.raises(
        UsageError, match=r"^plan.json of run 'one' names the MLflow store .*; give it with --t"
    ):
        tracking_uri(run, RESUME)
    remember(uri)
    assert tracking_uri(run, RESUME) == uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://variable")
    assert tracking_uri(run, RESUME) == "http://variable"
    assert tracking_uri(run, LaunchOptions(resume="one", tracking_uri="http://option")) == "http://option"


def test_the_default_store_of_this_folder_needs_no_word(run: RunFolder, tmp_path: Path) -> None:
    here = f"sqlite:///{tmp_path}/mlflow.db"
    run.update(tracking_uri=here)
    assert tracking_uri(run, RESUME) == here
    run.update(tracking_uri=None)
    assert tracking_uri(run, RESUME) == here
    assert tracking_uri(run, LaunchOptions("aoe_sigma")) == here


def test_a_password_that_is_not_stored_is_asked_for(run: RunFolder) -> None:
    run.update(tracking_uri="https://h/ml?token=***")
    with pytest.raises(
        UsageError, match=r"^the password of the run's MLflow store https://h/ml\?token=\*\*\* "
    ):
        tracking_uri(run, RESUME)


def test_a_relative_file_of_an_earlier_version_is_beside_the_runs(run: RunFolder, tmp_path: Path) -> None:
    run.update(tracking_uri="sqlite:///mlflow.db", commands=["python launch.py --study aoe_sigma"])
    assert tracking_uri(run, RESUME) == f"sqlite:///{tmp_path}/mlflow.db"  # it is not there (any more)
    there = Path(run.root).parent / "mlflow.db"
    there.touch()
    assert tracking_uri(run, RESUME) == f"sqlite:///{there}"
    run.update(commands=["python launch.py --study aoe_sigma --storage /elsewhere"])
    assert tracking_uri(run, RESUME) == f"sqlite:///{tmp_path}/mlflow.db"
    there.unlink()


def test_passwords_are_not_kept(run: RunFolder) -> None:
    remember("https://me:secret@h/ml")
    file = Path(os.environ["XDG_STATE_HOME"]) / "robust-tuner" / "trackings.json"
    assert "secret" not in file.read_text()
    run.update(tracking_uri="https://h/ml")
    assert tracking_uri(run, RESUME) == "https://h/ml"
