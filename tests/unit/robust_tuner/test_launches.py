"""Launches from Python: errors are exceptions with the command line's one line, signals and Ray are the caller's."""

import math
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import robust_tuner as rt
from tuner import cli
from tuner.base.errors import Interrupted
from tuner.base.signals import Signals
from tuner.commands import start as starting
from tuner.store.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["--study", "aoe_sigm"], lambda: rt.run("aoe_sigm")),
        (["--study", "aoe_sigma", "--trials", "0"], lambda: rt.run("aoe_sigma", trials=0)),
        (
            ["--study", "aoe_sigma", "--set", "attack.epsilno=1"],
            lambda: rt.run("aoe_sigma", settings={"attack.epsilno": 1}),
        ),
        (["--study", "aoe_sigma", "--dataset", "cifar10"], lambda: rt.run("aoe_sigma", dataset="cifar10")),
        (
            ["--train", "--method", "standard", "--trials", "2"],
            lambda: rt.run(method="standard", train=True, trials=2),
        ),
        ([], lambda: rt.run()),
        (["--resume", "gone"], lambda: rt.resume("gone")),
        (["--resume"], lambda: rt.resume()),
        (["--resume", "gone", "--storage", "there"], lambda: rt.resume("there/gone")),
        (["--evaluate", "gone.pt"], lambda: rt.evaluate("gone.pt")),
        (["--evaluate", "gone/0"], lambda: rt.evaluate("gone/0")),
    ],
)
def test_an_error_is_the_line_of_the_command_line(
    words: list[str], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    line = capsys.readouterr().err.strip().removeprefix("launch.py: ")
    with pytest.raises(rt.UsageError) as told:
        call()
    assert str(told.value) == line
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_ray_of_the_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(
        rt.UsageError, match=r"^Ray runs in this process already; end it with ray.shutdown\(\)$"
    ):
        rt.run("aoe_sigma")


def launched(monkeypatch: pytest.MonkeyPatch, code: int, reason: str = "") -> list[Any]:
    """Have launches end with this exit status; return the list of what they were called with."""
    calls: list[Any] = []

    def start(options: Any, words: list[str], command: str) -> tuple[RunFolder, int]:
        calls.append((options, words, command))
        print("shown")
        folder = RunFolder(options.storage, options.run_name or options.resume)
        folder.make()
        folder.write_json(
            "plan.json",
            {"plan": {}, "created": "2026-01-01T00:00:00", "commands": [], "ended": {"reason": reason}},
        )
        return folder, code

    monkeypatch.setattr(starting, "start", start)
    return calls


def test_an_interrupted_launch_raises_what_ends_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = launched(monkeypatch, 130)
    with pytest.raises(KeyboardInterrupt) as told:
        rt.run("aoe_sigma", run_name="r", trials=3)
    assert isinstance(told.value, rt.Interrupted)
    assert (told.value.run, told.value.exit_code) == ("r", 130)
    assert str(told.value) == "interrupted; everything is saved, go on with robust_tuner.resume('r')"
    (_, words, command) = calls[0]
    assert words == ["--study", "aoe_sigma", "--run-name=r", "--trials=3"]
    assert command == "python launch.py --study aoe_sigma --run-name=r --trials=3"


def test_a_signal_before_the_run_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any) -> None:
        raise Interrupted(143)

    monkeypatch.setattr(starting, "start", start)
    with pytest.raises(rt.Interrupted, match=r"^interrupted before the run had begun$"):
        rt.run("aoe_sigma")


def test_a_failed_launch_raises_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, 1, "evaluation of 0003 failed: no memory")
    with pytest.raises(rt.StudyFailed, match=r"^evaluation of 0003 failed: no memory$"):
        rt.resume("r", storage="there", quiet=True)


def test_quiet_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    launched(monkeypatch, 130)
    for quiet, out in ((True, ""), (False, "shown\n")):
        with pytest.raises(rt.Interrupted):
            rt.run("aoe_sigma", run_name="r", quiet=quiet)
        assert capsys.readouterr().out == out


def test_a_second_ctrl_c_is_a_keyboard_interrupt_in_the_users_own_process() -> None:
    with Signals().installed() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.stop_requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_evaluation_gives_the_threads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(options: Any) -> Any:
        torch.set_num_threads(1)
        return {
            "metrics": {"test/a": None, "test/b": 0.5},
            "remarks": ["one"],
            **dict.fromkeys(("checkpoint", "method"), "x"),
            "network": "n",
            "dataset": "d",
            "epoch": 3,
            "protocol": {"name": "quick"},
            "seconds": 1.0,
        }

    monkeypatch.setattr("tuner.commands.evaluate.measured", measured)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = rt.evaluate("x.pt", protocol="quick", settings={"steps": 3})
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert math.isnan(found.metrics["test/a"])
    assert (found.metrics["test/b"], found.remarks) == (0.5, ("one",))
    assert str(found) == "x on d: 2 metrics by protocol quick"
