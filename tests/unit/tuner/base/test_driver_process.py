"""A supervisor over small drivers without Ray: signals, terminals, orphans, restarts. Each is a process of its own."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SUPERVISOR = """
import sys
from tuner.base import driver_process
from tuner.commands import supervisor
driver_process.IMPATIENT_S = 0.3
supervisor.FIRST_PAUSE_S = 0.01
sys.exit(supervisor.Supervisor([sys.executable, "-c", sys.argv[1]]).run(sys.argv[2:]))
"""
#: of every driver: `got` counts signals, `ready` says that it listens
DRIVER = """
import os, signal, subprocess, sys, time
from tuner.base import driver_report
driver_report.connect()
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: got.append(number))
def ready(*words):
    print("ready", os.getpid(), *words, flush=True)
def until_signalled():
    while not got:
        time.sleep(0.01)
    time.sleep(0.2)  # for a second one
    print("got", *got, flush=True)
    driver_report.tell(ended=128 + got[0])
"""
WAITING = DRIVER + "ready(sys.stdout.isatty())\nuntil_signalled()\n"


def start(driver: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a supervisor in a process group of its own, as a shell would."""
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, driver, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def driver_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline().split()[1])


def state(pid: int) -> str:
    """Return the kernel's letter for a process: S asleep, T stopped, "" gone or a zombie."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
    return letter.strip("ZX")


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_reaches_the_driver_once(number: int) -> None:
    process = start(WAITING)
    driver_of(process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (128 + number, f"got {number}\n", "")


def test_ctrl_c_at_a_terminal_reaches_the_driver_once() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", SUPERVISOR, WAITING])
    shown = b""
    while not shown.endswith(b"\n"):
        shown += os.read(terminal, 1000)
    assert shown.split()[2] == b"True"  # the driver's output is the terminal
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert os.read(terminal, 1000).split() == [b"^Cgot", b"2"]
    os.close(terminal)


def test_ctrl_z_stops_the_driver_too() -> None:
    process = start(WAITING)
    driver = driver_of(process)
    os.kill(process.pid, signal.SIGTSTP)
    wait_until(lambda: state(process.pid) == state(driver) == "T")
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: state(driver) == "S")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_a_driver_whose_supervisor_is_killed_gets_sigterm() -> None:
    process = start(WAITING)
    driver_of(process)
    process.kill()
    out, _ = process.communicate(timeout=20)  # until the driver, too, has closed the pipe
    assert out == "got 15\n"


def test_nothing_of_a_dead_driver_is_left() -> None:
    """A child of a child, in a session of its own, that ends for no signal but SIGKILL."""
    stubborn = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); "
        "time.sleep(60)"
    )
    between = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}], start_new_session=True)"
    body = (
        f"child = subprocess.Popen([sys.executable, '-c', {between!r}], stdout=subprocess.PIPE, text=True)\n"
        "ready(child.stdout.readline())\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = start(DRIVER + body)
    out, err = process.communicate(timeout=20)
    _, driver, orphan = out.split()
    assert process.returncode == 1
    assert state(int(orphan)) == ""
    assert err == (
        f"launch.py: the driver (process {driver}) was killed by SIGKILL (kill -9, or the machine ran out of "
        "memory); the run had not begun and nothing was stored\n"
    )


RAYLET = "raylet = subprocess.Popen(['sleep', '60'])\ndriver_report.tell(ray={'raylet': raylet.pid})\n"


def test_a_driver_that_hangs_after_the_death_of_ray_is_ended() -> None:
    process = start(f"{DRIVER}{RAYLET}ready(raylet.pid)\nraylet.kill()\ntime.sleep(60)\n")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith(f"launch.py: Ray's raylet (process {out.split()[2]}) was killed by SIGKILL (")


def test_ray_that_the_driver_shuts_down_itself_is_not_lost() -> None:
    body = "driver_report.tell(ray={})\nraylet.kill()\ntime.sleep(0.5)\ndriver_report.tell(ended=0)\n"
    process = start(f"{DRIVER}{RAYLET}{body}")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_a_driver_that_hears_no_signal_ends_after_the_second_ctrl_c() -> None:
    deaf = f"{DRIVER}signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT}})\nready()\ntime.sleep(60)\n"
    process = start(deaf)
    driver = driver_of(process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"the driver (process {driver}) was killed by SIGKILL" in err


DYING = """
facts = {"log": "console.log", "resume_command": "the command", "resume_arguments": ["again"], "restart": 2}
driver_report.tell(**facts, **WHERE)
print(*sys.argv[1:], flush=True)
END
"""


@pytest.mark.parametrize(
    ("end", "lives", "code", "lines"),
    [
        ("os._exit(3)", ["first", "again", "again"], 1, 3),
        ("os._exit(3) if sys.argv[1] == 'first' else driver_report.tell(ended=0)", ["first", "again"], 0, 1),
        ("driver_report.tell(ended=1, halted=True)", ["first", "again", "again"], 1, 2),
        ("driver_report.tell(ended=1)", ["first"], 1, 0),
        ("driver_report.tell(ended=2)", ["first"], 2, 0),
        ("driver_report.tell(ended=130)", ["first"], 130, 0),
    ],
)
def test_restarts(tmp_path: Path, end: str, lives: list[str], code: int, lines: int) -> None:
    from tests.unit.runs import StoredRun

    StoredRun(tmp_path, "r")
    where = {"run": "r", "storage": str(tmp_path)}
    process = start(DRIVER + DYING.replace("WHERE", repr(where)).replace("END", end), "first")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.split()) == (code, lives), err
    said = err.splitlines()
    assert len(said) == lines, err
    assert ["(restart 1 of 2)" in line for line in said[:1]] == [True] * min(lines, 1)
    if lines == 3:
        assert "ended with exit status 3 without a word; logs: console.log; resuming in 0 s" in said[1]
        assert said[2].endswith("without a word; logs: console.log; continue with: the command")
