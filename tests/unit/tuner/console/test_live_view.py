"""What a terminal shows of a scripted run, at 60, 80 and 120 columns, as a terminal's emulator has it on its screen."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyte
import pytest

from tests.unit.study_results import plan, record, result
from tuner.base.records import State
from tuner.console.progress import Console
from tuner.planning.plan import Plan

CLAIM, NEAR = "test/robust_auroc_0.1/near", "test/auroc/near"
LOAD = "CPU 93 % of 2, memory 3.1 of 16 GiB"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def small() -> Plan:
    """Two arms beside the winner, five seeds, no floors."""
    made = plan(10)
    return replace(made, run_name="first", arms=made.arms[:2], floors=(), headline=(CLAIM, NEAR))


def searching(console: Console, clock: Clock) -> None:
    """Six trials have ended in a minute, one of them failed; one runs, in its second epoch."""
    console.stage("start", "Ray")
    console.stage("prepare", "data, pretrained classifier")
    clock.now = 5
    console.stage("search", "2 at a time")
    for number, level in enumerate((0.5, 0.7, 0.9, 0.6, 0.8, 0.0)):
        state = State.FAIL if level == 0 else State.COMPLETE if level > 0.6 else State.PRUNED
        values = (level,) * (9 if state is State.COMPLETE else 1)
        made = record(number, values, state, reason="out of memory" if level == 0 else "")
        console.started(replace(made, state=State.RUNNING, history={}))
        clock.now += 10
        console.ended(made)
    console.started(record(6, (), State.RUNNING))
    clock.now += 1
    console.epoch(record(6, (0.85,), State.RUNNING), 1)


def confirming(console: Console, clock: Clock) -> None:
    searching(console, clock)
    console.ended(record(6, (0.85,), State.PRUNED))
    console.stage("confirm", "5 fresh seeds, every arm")
    names = ("best", *(arm.name for arm in small().arms))
    for number in range(8):
        made = record(number, (0.9 if number < 3 else 0.8,) * 9, lane="confirm", arm=names[number % 3],
                      seed_index=number // 3)  # fmt: skip
        clock.now += 6
        console.started(replace(made, state=State.RUNNING, history={}))
        if number < 7:
            console.ended(made)
    clock.now += 4000
    console.started(replace(made, state=State.RUNNING, history={}))


def emulated(play: Callable[[Console, Clock], None], width: int) -> pyte.Screen:
    """Return a terminal's screen of so many columns and 40 lines after a scripted run."""
    out, clock = Terminal(), Clock()
    console = Console(
        small(), 20, stream=out, clock=clock, width=width, plain=False, tick_s=None, load=lambda: LOAD
    )
    play(console, clock)
    emulator = pyte.Screen(width, 40)
    pyte.Stream(emulator).feed(out.getvalue().replace("\n", "\r\n"))
    return emulator


def screen(play: Callable[[Console, Clock], None], width: int) -> list[str]:
    """Return the lines of the screen, without empty ones at the end."""
    return "\n".join(line.rstrip() for line in emulated(play, width).display).rstrip().split("\n")


GOLDEN = {
    60: """\
[01:05] trial 0005 failed: out of memory
aoe_sigma on digits-open · first                       01:06
✓ prepare   ● search   · evaluate   · confirm   · report
━━━━━━━╺━━━━━━━━━━━━━━━━ 6/20 trials ended
5.9 per min · about 2 min 22 s left of this stage
CPU 93 % of 2, memory 3.1 of 16 GiB
running  0006 1/9

trial  state          epoch  objective  val. accuracy
    2  complete           9     90.0 %         98.0 %
    6  running            1     85.0 %         98.0 %
    4  complete           9     80.0 %         98.0 %
    1  complete           9     70.0 %         98.0 %
    3  stopped early      1     60.0 %         98.0 %
    0  stopped early      1     50.0 %         98.0 %""",
    80: """\
[01:05] trial 0005 failed: out of memory
aoe_sigma on digits-open · first                                           01:06
✓ prepare   ● search   · evaluate   · confirm   · report
━━━━━━━╺━━━━━━━━━━━━━━━━ 6/20 trials ended
5.9 per min · about 2 min 22 s left of this stage
CPU 93 % of 2, memory 3.1 of 16 GiB
running  0006 1/9

trial  state          epoch  objective  val. accuracy  outliers.sigma
    2  complete           9     90.0 %         98.0 %  1
    6  running            1     85.0 %         98.0 %  1
    4  complete           9     80.0 %         98.0 %  1
    1  complete           9     70.0 %         98.0 %  1
    3  stopped early      1     60.0 %         98.0 %  1
    0  stopped early      1     50.0 %         98.0 %  1""",
    120: """\
[01:05] trial 0005 failed: out of memory
aoe_sigma on digits-open · first                                                                                   01:06
✓ prepare   ● search   · evaluate   · confirm   · report
━━━━━━━╺━━━━━━━━━━━━━━━━ 6/20 trials ended
5.9 per min · about 2 min 22 s left of this stage
CPU 93 % of 2, memory 3.1 of 16 GiB
running  0006 1/9

trial  state          epoch  objective  val. accuracy  outliers.sigma  attack.name  attack.epsilon
    2  complete           9     90.0 %         98.0 %  1
    6  running            1     85.0 %         98.0 %  1
    4  complete           9     80.0 %         98.0 %  1
    1  complete           9     70.0 %         98.0 %  1
    3  stopped early      1     60.0 %         98.0 %  1
    0  stopped early      1     50.0 %         98.0 %  1""",
}

CONFIRM = """\
[01:05] trial 0005 failed: out of memory
aoe_sigma on digits-open · first                     1:08:34
✓ prepare   ✓ search   ✓ evaluate   ● confirm   · report
━━━━━━━━━━━╺━━━━━━━━━━━━ 7/15 trainings ended
0.104 per min · about 1 h 17 min left of this stage
CPU 93 % of 2, memory 3.1 of 16 GiB
running  confirm-0007 0/9

configuration  state    seeds  mean objective
winner                    3/5          83.3 %
oe             running    2/5          85.0 %
no_attack                 2/5          85.0 %"""


@pytest.mark.parametrize("width", GOLDEN)
def test_search(width: int) -> None:
    assert screen(searching, width) == GOLDEN[width].split("\n")


def test_confirm_shows_arms() -> None:
    assert screen(confirming, 60) == CONFIRM.split("\n")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("play", [searching, confirming])
def test_no_line_is_broken_at_any_width(play: Callable[[Console, Clock], None], width: int) -> None:
    """The same lines on every screen: what does not fit is cut, nothing wraps into a second line."""
    assert len(screen(play, width)) == len(screen(play, 120))


def test_a_stage_without_trials_shows_its_own_name_and_count() -> None:
    def evaluating(console: Console, clock: Clock) -> None:
        searching(console, clock)
        console.stage("evaluate", "test splits of the finished trials")

    def halfway(console: Console, clock: Clock) -> None:
        evaluating(console, clock)
        for done in range(1, 5):
            clock.now += 10
            console.progress(done, 12, "evaluated")
        clock.now += 1
        console.progress(4, 12, "evaluated")

    assert screen(evaluating, 80)[3] == "evaluate: test splits of the finished trials"
    lines = screen(halfway, 80)
    assert lines[2] == "✓ prepare   ✓ search   ● evaluate   · confirm   · report"
    assert lines[3].endswith(" 4/12 evaluated")
    # counting began when the first had ended: three more in 31 s, eight are left
    assert lines[4] == "5.81 per min · about 1 min 23 s left of this stage"


def test_lines_that_repeat_the_display_are_in_the_log_alone(tmp_path: Path) -> None:
    out, clock = Terminal(), Clock()
    log = tmp_path / "console.log"
    console = Console(
        small(), 20, log=log, stream=out, clock=clock, width=80, plain=False, tick_s=None, load=str
    )
    searching(console, clock)
    console.close()
    stored = log.read_text("utf-8")
    for words in ("best so far", "trials ended: ", "== search"):
        assert words in stored
        assert words not in out.getvalue()
    assert "trial 0005 failed" in stored
    assert "trial 0005 failed" in out.getvalue()


@pytest.mark.parametrize("forbidden", [True, False])
def test_no_color(forbidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if forbidden:
        monkeypatch.setenv("NO_COLOR", "1")
    out, clock = Terminal(), Clock()
    console = Console(small(), 20, stream=out, clock=clock, width=80, plain=False, tick_s=None, load=str)
    searching(console, clock)
    console.close()
    codes = {
        number for part in out.getvalue().split("\x1b[")[1:] for number in part.partition("m")[0].split(";")
    }
    coloured = {"31", "32", "33", "36"} & codes
    assert bool(coloured) != forbidden
    assert "complete" in out.getvalue()  # words say what colours say


def test_an_ascii_terminal_has_marks_of_its_own() -> None:
    class Ascii(Terminal):
        encoding = "ascii"

    out, clock = Ascii(), Clock()
    searching(
        Console(small(), 20, stream=out, clock=clock, width=80, plain=False, tick_s=None, load=str), clock
    )
    assert "+ prepare" in out.getvalue()
    assert out.getvalue().isascii()


# -- the clock ---------------------------------------------------------------------------------------------


def test_the_clock_goes_on_without_an_event() -> None:
    """Each look at the clock is a minute later; the display is drawn again by itself."""

    class Later(Clock):
        def __call__(self) -> float:
            self.now += 60
            return self.now

    drawn = threading.Event()

    class Watched(Terminal):
        def write(self, text: str) -> int:
            drawn.set()
            return super().write(text)

    out = Watched()
    console = Console(small(), 20, stream=out, clock=Later(), width=80, plain=False, tick_s=0.01, load=str)
    console.stage("search", "2 at a time")
    for _ in range(3):
        drawn.clear()
        assert drawn.wait(30)
    console.close()
    ended = len(out.getvalue())
    drawn.clear()
    assert not drawn.wait(0.1)  # and stops
    assert len(out.getvalue()) == ended


# -- addresses --------------------------------------------------------------------------------------------


def test_long_addresses_are_words_that_lead_there(tmp_path: Path) -> None:
    url, short = (
        f"http://127.0.0.1:5000/#/experiments/1/runs?searchFilter={'x' * 250}",
        "http://127.0.0.1:5000/#/1",
    )
    made = result(plan=small(), links={"runs": url, "report": short}, ui_command="mlflow ui")
    out, log = Terminal(), tmp_path / "console.log"
    console = Console(small(), 20, log=log, stream=out, width=80, plain=False, tick_s=None, load=str)
    console.answer(made, tmp_path)
    console.close()
    text = out.getvalue()
    assert f"  \x1b]8;;{url}\x1b\\runs\x1b]8;;\x1b\\\n" in text
    assert f"  report: {short}\n" in text
    assert f"(addresses in full: {log})" in text
    assert f"runs: {url}" in log.read_text("utf-8")
    assert text.index("claim") < text.index(short)  # the answer comes before links
    plain = io.StringIO()
    Console(small(), 20, stream=plain).answer(made, tmp_path)
    assert f"  runs: {url}\n" in plain.getvalue()


def test_an_address_cannot_end_its_link_early(tmp_path: Path) -> None:
    evil = "http://x/\x1b\\\x1b[2J" + "y" * 100
    out = Terminal()
    console = Console(small(), 20, stream=out, width=80, plain=False, tick_s=None, load=str)
    console.answer(result(plan=small(), links={"runs": evil}), tmp_path)
    assert "\x1b[2J" not in out.getvalue()


def test_sentences_are_broken_between_words_and_commands_are_not(tmp_path: Path) -> None:
    problem, command = (
        "MLflow has not taken what --confirm-seeds 5 would " + "say again and " * 8,
        "run " + "--x y " * 30,
    )
    made = result(plan=small(), problems=(problem,), export_command=command)
    out, log = Terminal(), tmp_path / "console.log"
    console = Console(small(), 20, log=log, stream=out, width=60, plain=False, tick_s=None, load=str)
    console.answer(made, tmp_path)
    console.close()
    lines = out.getvalue().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("note: MLflow"))
    assert lines[first : first + 2] == [
        "note: MLflow has not taken what --confirm-seeds 5 would say",
        "  again and say again and say again and say again and say",
    ]
    assert f"  {command}" in lines
    assert f"note: {problem.strip()}" in log.read_text("utf-8")
    plain = io.StringIO()
    Console(small(), 20, stream=plain).answer(made, tmp_path)
    assert f"note: {problem}\n" in plain.getvalue()


# -- a real terminal ---------------------------------------------------------------------------------------

SCRIPT = """
import sys
from tests.unit.tuner.console.test_live_view import Clock, searching, small, LOAD
from tuner.console.progress import Console
clock = Clock()
console = Console(small(), 20, clock=clock, tick_s=None, load=lambda: LOAD)
searching(console, clock)
console.close()
"""


def test_on_a_real_terminal_of_80_columns() -> None:
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    root = Path(__file__).resolve().parents[4]
    words = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        words, cwd=root, stdout=other, env={**environment, "TERM": "xterm", "PYTHONPATH": str(root)}
    ):
        os.close(other)
        emulator, stream = pyte.Screen(80, 40), pyte.ByteStream()
        stream.attach(emulator)
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:  # Linux says so at the end
                break
            if not data:
                break
            stream.feed(data)
    os.close(main)
    assert "\n".join(line.rstrip() for line in emulator.display).rstrip() == GOLDEN[80]
