"""`launch.py --export`: a run's winner, a trial or a file as a model; what is wrong in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.runs import StoredRun
from trainables import StandardTrainable
from trainables.data.loading.open_dataset import load
from trainables.data.types.splits import Split
from trainables.inference.robust_predictor import Predictor
from trainables.training import checkpoints
from tuner import cli


@pytest.fixture(scope="module")
def trained() -> bytes:
    """Return a checkpoint of a classifier of digits-open, trained for an epoch."""
    trial = StandardTrainable(
        config={"dataset": "digits-open", "epochs": 1, "validation": {"groups": ("clean",)}}
    )
    trial.step()
    assert trial._method is not None
    return checkpoints.pack("standard", trial._method, 1, trial._data.info)


@pytest.fixture
def run(trained: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    """A run of which trial 1 is the winner and trial 2 was stopped early; each has a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stored = StoredRun(Path("runs"), trials=3)
    queue = stored.queue()
    for values in ([0.5] * 9, [0.9] * 9, [0.1] * 9):
        stored.trial(queue, values)
    for path in Path("runs/one/checkpoints").rglob("epoch-*.pt"):
        path.write_bytes(trained)
    Path("alone.pt").write_bytes(trained)
    return stored


def launch(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["--export", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def metadata(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "model.json").read_text())
    return found


@pytest.mark.slow
def test_the_winner_of_a_run(run: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = launch(capsys, "one")
    assert code == 0, err
    assert out.startswith(
        "exported trial 0001 of run one to exports/one-0001\n  6 classes: 0, 1, 2, 3, 4, 5\n"
    )
    assert "from robust_predictor import Predictor; model = Predictor.load('model.pt2')" in out
    found = metadata("exports/one-0001")
    assert found["source"]["trial"] == "0001"
    assert found["source"]["run_id"] == run.plan.run_id
    assert found["source"]["content_hash"] == run.plan.content_hash
    assert (found["source"]["dataset"], found["source"]["method"]) == ("digits-open", "standard")
    assert found["score"] == run.plan.protocol["score"]
    assert found["classes"] == list("012345")
    assert found["formats"]["pytorch"]["files"] == ["model.pt2", "robust_predictor.py"]
    model = Predictor.load("exports/one-0001/model.pt2")
    assert model.facts == {key: value for key, value in found.items() if key != "formats"}
    data = load("digits-open", "", search_only=True).labelled(Split.VAL_ID)
    with torch.no_grad():
        accepted = ~model(torch.tensor(data.images))["is_ood"]
    n = len(data)
    assert int(accepted.sum()) == -(-95 * n // 100)


@pytest.mark.slow
def test_a_trial_a_file_and_a_folder_of_ones_own(
    run: StoredRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = launch(capsys, "one/2", "--format", "torchscript", "--output", "here")
    assert code == 0, err
    assert metadata("here")["source"]["trial"] == "0002"
    assert {path.name for path in Path("here").iterdir()} == {"model.ts", "model.json"}
    code, out, err = launch(capsys, "one/2", "--output", "here")
    assert code == 0, err
    assert {path.name for path in Path("here").iterdir()} == {
        *("model.ts", "model.pt2", "robust_predictor.py", "model.json")
    }
    assert set(metadata("here")["formats"]) == {"torchscript", "pytorch"}
    code, out, err = launch(
        capsys, "alone.pt", "--output", "here"
    )  # another model: the files of the first go
    assert code == 0, err
    assert out.startswith("exported alone.pt to here")
    assert not Path("here/model.ts").exists()
    assert set(metadata("here")["formats"]) == {"pytorch"}
    assert metadata("here")["score"] == "energy"  # the method's own
    assert metadata("here")["source"]["file"] == "alone.pt"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["two"], "run 'two' does not exist in runs"),
        (["one/7"], "run one has no trial '7'; it has 0000 to 0002"),
        (["one", "--format", "tflite"], "unknown format 'tflite'"),
        (["one", "--format", ""], "--format is empty; name some of pytorch,torchscript,onnx"),
        (["one", "--output", "alone.pt"], "--output alone.pt is a file; name a folder"),
        (
            ["one", "--output", "/proc/x"],
            "/proc/x cannot be written to: No such file or directory; name another ",
        ),
        (
            ["one", "--data-dir", "nowhere"],
            "/nowhere is not a folder; its validation images set the threshold",
        ),
        (
            ["one", "--dataset", "glyphs"],
            "--dataset glyphs is not what runs/one/checkpoints/0001/epoch-0009.pt",
        ),
        (["one", "--trials", "3"], "--trials does not go with --export"),
        (["plan.json"], "run 'plan.json' does not exist"),
        (["a/b/c"], "--export 'a/b/c' is no file"),
        (["0" * 32], "there is no MLflow store"),
    ],
)
def test_wrong_input_is_one_line(
    run: StoredRun, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = launch(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    assert not Path("exports").exists()


def test_a_run_without_a_winner(run: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("runs")
    stored = StoredRun(Path("runs"), trials=2)
    assert "run one has no winner; no trial is complete" in launch(capsys, "one")[2]
    stored.trial(stored.queue(), [0.9] * 9, clean=0.2)  # misses the floor
    code, _, err = launch(capsys, "one")
    assert code == 2
    assert "run one has no winner; name one of its trials, as --export one/0" in err


def test_a_damaged_checkpoint(run: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/one/checkpoints/0001/epoch-0009.pt").write_bytes(b"PK")
    code, _, err = launch(capsys, "one")
    assert code == 2
    assert "epoch-0009.pt is not a readable checkpoint" in err


def test_onnx_without_its_extra(
    run: StoredRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.inference.formats.find_spec", lambda name: None)
    code, _, err = launch(capsys, "one", "--format", "onnx")
    assert code == 2
    assert "pip install 'robust-tuner[export]'" in err
