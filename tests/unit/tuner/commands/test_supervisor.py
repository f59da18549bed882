"""What a driver's end comes to: the line, the exit status of the launch, and whether the run goes on by itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuner.base.signals import Signals
from tuner.commands.supervisor import (
    ANSWERED_HERE,
    Ending,
    drives_a_study,
    last_words,
    pause_s,
    record,
)
from tuner.planning.launch_options import LaunchOptions, launch_options
from tuner.planning.option import OptionRole
from tuner.planning.resolve import resolve
from tuner.store.run_folder import RunFolder

OUT_OF_MEMORY = "(kill -9, or the machine ran out of memory)"
FACTS = {
    "log": "runs/r/console.log",
    "ray_logs": "/tmp/ray/logs",
    "resume_command": "python launch.py --resume r",
}


@pytest.mark.parametrize(
    ("ending", "code", "words", "restart"),
    [
        # the driver has said how it ended, whatever became of its process after that
        (Ending(7, 0, announced=0), 0, "", False),
        (Ending(7, -11, announced=0), 0, "", False),
        (Ending(7, 1, announced=1), 1, "", False),
        (Ending(7, 1, announced=1, halted=True), 1, "", True),
        (Ending(7, 2, announced=2), 2, "", False),
        (Ending(7, 130, announced=130, asked=2), 130, "", False),
        (Ending(7, 143, announced=143), 143, "", False),  # asked by --stop
        (Ending(7, 1, announced=1, halted=True, asked=15), 1, "", False),
        # it died
        (Ending(7, -9), 1, f"the driver (process 7) was killed by SIGKILL {OUT_OF_MEMORY}", True),
        (Ending(7, -11), 1, "the driver (process 7) crashed with SIGSEGV", True),
        (Ending(7, 0), 1, "the driver (process 7) ended with exit status 0 without a word", True),
        (Ending(7, 1), 1, "the driver (process 7) ended with exit status 1 without a word", True),
        (
            Ending(7, -9, lost=("raylet", 8, -9)),
            1,
            f"Ray's raylet (process 8) was killed by SIGKILL {OUT_OF_MEMORY}",
            True,
        ),
        (Ending(7, -9, lost=("dashboard agent", 8, None)), 1, "Ray's dashboard agent (process 8) died", True),
        # it was ended before it could save
        (Ending(7, -15), 143, "the driver (process 7) was killed by SIGTERM", False),
        (Ending(7, -2, asked=2), 130, "ended by SIGINT", False),
        (Ending(7, -15, asked=15), 143, "ended by SIGTERM", False),
        (
            Ending(7, 1, asked=15),
            143,
            "the driver (process 7) ended with exit status 1 without a word after SIGTERM, before all was saved",
            False,
        ),
    ],
)
def test_every_end(ending: Ending, code: int, words: str, restart: bool) -> None:
    assert (ending.code, ending.words, ending.may_restart) == (code, words, restart)


def test_last_words() -> None:
    died = Ending(7, -11)
    assert last_words(died, FACTS, begun=True) == (
        "the driver (process 7) crashed with SIGSEGV; logs: runs/r/console.log and /tmp/ray/logs "
        "(which a launch over an hour later removes); "
        "continue with: python launch.py --resume r"
    )
    assert last_words(died, {}, begun=False) == (
        "the driver (process 7) crashed with SIGSEGV; the run had not begun and nothing was stored"
    )


def test_pauses_grow() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 8, 9, 100)] == [2, 4, 8, 256, 300, 300]


def test_questions_are_answered_without_a_child_process() -> None:
    """All actions but --resume, and what only prints or sends."""
    actions = {o.flag for o in launch_options().values() if o.role is OptionRole.ACTION} - {"--resume"}
    assert actions | {"--dry-run", "--submit", "--help", "-h"} == ANSWERED_HERE
    assert drives_a_study(["--study", "s", "--resume"])
    assert drives_a_study([])
    assert not drives_a_study(["--study", "s", "--dry-run"])
    assert not drives_a_study(["--status=r"])


def new_run(root: Path) -> RunFolder:
    folder = RunFolder(str(root), "r")
    folder.create(resolve(LaunchOptions("aoe_sigma"), "r", "python launch.py --study aoe_sigma"), {})
    return folder


def stored(root: Path) -> Any:
    return json.loads((root / "r" / "plan.json").read_text())["ended"]


def test_a_death_is_stored_and_what_the_driver_stored_stays(tmp_path: Path) -> None:
    new_run(tmp_path)
    facts = {"run": "r", "storage": str(tmp_path)}
    killed = Ending(7, -9)
    assert record(facts, killed)
    first = stored(tmp_path)
    assert (first["state"], first["reason"]) == ("failed", killed.words)
    assert record(facts, Ending(7, -15))
    assert stored(tmp_path) == first
    assert killed.words in (tmp_path / "r" / "logs" / "driver.log").read_text()
    assert [p.name for p in (tmp_path / "r" / "lease").iterdir()] == ["lock"]


def test_a_driver_ended_by_a_signal_is_stored_as_interrupted(tmp_path: Path) -> None:
    new_run(tmp_path)
    assert record({"run": "r", "storage": str(tmp_path)}, replace(Ending(7, -9), asked=15))
    assert (stored(tmp_path)["state"], stored(tmp_path)["reason"]) == ("interrupted", "")


def test_a_run_that_another_driver_holds_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new_run(tmp_path)
    with folder.lease().held(Signals()):
        before = (tmp_path / "r" / "plan.json").read_bytes()
        assert record({"run": "r", "storage": str(tmp_path)}, Ending(7, -9))
        assert (tmp_path / "r" / "plan.json").read_bytes() == before
    assert "how it ended could not be stored: run 'r' is being driven by process" in capsys.readouterr().err


def test_a_run_that_had_not_begun(tmp_path: Path) -> None:
    assert not record({}, Ending(7, -9))
    assert not record({"run": "r", "storage": str(tmp_path)}, Ending(7, -9))
    assert list(tmp_path.iterdir()) == []
