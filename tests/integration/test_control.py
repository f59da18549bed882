"""Signals at every stage, and a driver that is asked how it stands and asked to stop, as a user would."""

import json
import os
import signal

import pytest

from tests.integration.conftest import ROOT, Launcher, driver_of
from tests.integration.test_interruptions import comparable
from tests.integration.test_main_job import rows, runs_of
from tuner.cli import run as launch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STAGES = ("start", "prepare", "search", "evaluate", "confirm", "report")


def tiny(name: str, *more: str, trials: int = 2) -> list[str]:
    """Return a study of two epochs; so small a learning rate keeps the floor of the pretrained accuracy."""
    settings = ("pretrain.epochs=3", "outliers.count=200", "lr=loguniform(1e-6,1e-5)")
    words = [word for setting in settings for word in ("--set", setting)]
    size = ["--trials", str(trials), "--max-epochs", "2", "--confirm-seeds", "1", "--concurrency", "1"]
    return ["--study", "aoe_sigma", "--run-name", name, *size, *words, *more]


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_interrupted_at_every_stage_ends_the_same(launcher: Launcher) -> None:
    """SIGTERM and SIGINT by turns, once at each stage of one and the same run."""
    whole = launcher.run(*tiny("whole"), timeout=900)
    assert whole.code == 0, whole.out + whole.err
    words = tiny("cut")
    for turn, stage in enumerate(STAGES):
        process = launcher.start(*words)
        launcher.wait_for("cut", f"== {stage}", 1, process, timeout=600)
        process.send_signal((signal.SIGTERM, signal.SIGINT)[turn % 2])
        out, err = process.communicate(timeout=300)
        assert process.returncode == (143, 130)[turn % 2], (stage, out, err)
        assert "Traceback" not in out + err
        command = f"python {ROOT}/launch.py --study aoe_sigma --resume cut"
        assert command in out, (stage, out)
        plan = json.loads((launcher.folder / "runs" / "cut" / "plan.json").read_text())
        assert (plan["finished"], plan["ended"]["state"]) == (False, "interrupted")
        words = command.split()[2:]
        (launcher.folder / "runs" / "cut" / "console.log").unlink()
    done = launcher.run(*words, timeout=900)
    assert done.code == 0, done.out + done.err
    for file in ("trials.csv", "arms.csv"):
        assert comparable(rows(launcher, "cut", file)) == comparable(rows(launcher, "whole", file))
    for name in ("whole", "cut"):
        _, children = runs_of(launcher, name)
        assert len(children) == 2 + 2 + 5
        checkpoints = launcher.folder / "runs" / name / "checkpoints"
        assert {len(list(trial.iterdir())) for trial in checkpoints.iterdir()} == {1}


def test_asked_how_it_stands_and_asked_to_stop(
    launcher: Launcher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(launcher.folder)
    process = launcher.start(*tiny("live", "--stages", "search", trials=4))
    launcher.wait_for("live", " epoch ", 3, process, timeout=400)

    def ask(*arguments: str) -> str:
        code = launch(arguments)
        out, err = capsys.readouterr()
        assert code == 0, out + err
        return out

    driver = driver_of(process).pid
    standing = json.loads(ask("--status", "live", "--json"))
    assert standing["state"] == "running"
    assert standing["driver"]["pid"] == driver
    assert standing["stage"] in ("prepare", "search")
    assert standing["seconds_left"] > 0
    assert f"running here (process {driver})" in ask("--status")
    assert "trial 0000 of run live (search): " in ask("--why", "live", "0")
    told = ask("--stop", "live")
    assert f"process {driver} on {os.uname().nodename} has SIGTERM" in told
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert f"python {ROOT}/launch.py --study aoe_sigma --resume live" in out
    assert "python launch.py --study aoe_sigma --resume live" in told
    assert json.loads(ask("--status", "live", "--json"))["state"] == "interrupted"
    assert launch(["--stop", "live"]) == 2
    assert "not running: interrupted" in capsys.readouterr().err
