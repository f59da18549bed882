"""A driver or a process of Ray dies under a study: the launch says so and ends, or goes on by itself with --restart."""

import json
import signal
import subprocess
from typing import Any

import psutil
import pytest

from tests.faults.conftest import Study, at
from tests.integration.conftest import driver_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: (what is killed, part of its command line, the signal, what the line says of it)
DEATHS = (
    ("the driver", "launch.py", signal.SIGSEGV, "crashed with SIGSEGV; "),
    ("Ray's raylet", "raylet/raylet", signal.SIGKILL, "was killed by SIGKILL (kill -9, "),
    ("Ray's GCS", "gcs/gcs_server", signal.SIGKILL, "was killed by SIGKILL (kill -9, "),
    ("Ray's dashboard agent", "DashboardAgent", signal.SIGKILL, "died; "),
)


def processes_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the driver of a launch and everything below it."""
    driver = driver_of(process)
    return [driver, *driver.children(recursive=True)]


def start(study: Study, *more: str) -> subprocess.Popen[str]:
    """Start or continue the run and wait until it has trained an epoch more."""
    log = study.folder("run") / "console.log"
    known = log.read_text().count(" epoch ") if log.exists() else 0
    which = ["--resume", "run"] if log.exists() else ["--study", "tiny", "--run-name", "run"]
    process = study.launcher.start(*which, "--concurrency", "1", *more)
    study.launcher.wait_for("run", " epoch ", known + 1, process)
    return process


def test_whatever_dies_the_launch_has_the_last_word_and_nothing_is_lost(
    study: Study, whole: dict[str, Any]
) -> None:
    """One run: the driver crashes, three processes of Ray die in turn; then it is killed and goes on by itself."""
    for name, part, number, words in DEATHS:
        process = start(study)
        all_of_it = processes_of(process)
        victim = next(found for found in all_of_it if part in " ".join(found.cmdline()))
        victim.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert not [found for found in all_of_it if found.is_running()]
        assert process.returncode == 1
        said = f"{name} (process {victim.pid}) {words}"
        line = err.splitlines()[-1]
        assert line.startswith(f"launch.py: {said}"), err
        assert "/logs (which a launch over an hour later removes); continue with: python " in line
        assert line.endswith("launch.py --study tiny --resume run")
        ended = json.loads((study.folder("run") / "plan.json").read_text())["ended"]
        assert ended["state"] == "failed"
        assert ended["reason"].startswith(said.rstrip("; "))
    study.faults.arm(at("trainables.training.method:Trainer.step", "kill-driver", call=3))
    done = study.run("run", "--restart", "2")
    assert study.faults.fired
    assert done.code == 0, done.out + done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("launch.py: ")]
    assert line.endswith("; resuming in 2 s (restart 1 of 2)")
    study.check("run", whole)
