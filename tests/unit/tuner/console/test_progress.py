"""The console: few lines, every event in the log, and nothing that a lost screen could stop."""

import io
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.domain import Choice
from tests.unit.study_results import CLEAN, plan, realistic, record, result
from tuner.base.records import State
from tuner.console.preview import checkpoint_size
from tuner.console.progress import Console, plan_text
from tuner.console.safe_stream import SafeStream


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.1
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Ascii(io.StringIO):
    encoding = "ascii"

    def write(self, text):
        text.encode("ascii")
        return super().write(text)


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def play(console, made, epochs=True):
    """Tell the console a whole study."""
    console.stage("search", "20 trials")
    for r in made.records:
        console.started(replace(r, state=State.RUNNING, history={}, attempt=1))
        for epoch in r.history if epochs else ():
            part = {e: h for e, h in r.history.items() if e <= epoch}
            console.epoch(replace(r, state=State.RUNNING, history=part), epoch)
        console.ended(r)
    console.stage("evaluate")
    for done in range(1, 41):
        console.progress(done, 40, "evaluated")
    console.stage("confirm")
    for n in range(25):
        console.ended(record(n, (0.9,) * 9, lane="confirm", arm="best", seed_index=n % 5))
    console.answer(made, Path("runs/x"))
    console.close()


def test_a_hundred_trials_take_few_lines(tmp_path):
    made, out = realistic(100), io.StringIO()
    play(Console(made.plan, 200, log=tmp_path / "console.log", stream=out, clock=Clock()), made)
    lines = out.getvalue().splitlines()
    assert 40 < len(lines) < 150
    assert not any("epoch 1:" in line for line in lines)
    log = (tmp_path / "console.log").read_text("utf-8").splitlines()
    assert len(log) > 200 + sum(r.epochs for r in made.records)
    assert all(line[:2] == "20" for line in log)


@pytest.mark.parametrize("state", [State.FAIL, State.COMPLETE])
def test_even_the_worst_study_takes_few_lines(state):
    """Every trial fails, or every trial is the best so far."""
    records = [record(n, (n / 200,), state, reason="boom" if state is State.FAIL else "") for n in range(100)]
    out = io.StringIO()
    play(Console(plan(100), 100, stream=out, clock=Clock()), result(records=tuple(records)))
    assert len(out.getvalue().splitlines()) < 150


def test_lines_of_note():
    out = io.StringIO()
    console = Console(plan(), 40, stream=out, clock=Clock())
    console.reference = {CLEAN: 1.5}
    console.ended(record(0, (0.7,)))  # below the floor: not a best
    console.reference = {CLEAN: 0.985}
    console.ended(record(1, (0.8,)))
    console.ended(record(2, (0.75,)))
    console.ended(record(3, (0.9,), lane="oe"))
    console.ended(record(4, (0.5,), State.FAIL, reason="out of\nmemory"))
    console.interrupted("python launch.py --study aoe_sigma --resume")
    text = out.getvalue()
    assert text.count("best so far") == 1
    assert "trial 1, validation robust AUROC (ε 0.1), near OOD 80.0 % (outliers.sigma=1, lr=0.001)" in text
    assert "trial 0004 failed: out of memory" in text
    assert "search: 4 of 40 trials ended: 4 complete; best" in text
    assert text.endswith("To go on:\n  python launch.py --study aoe_sigma --resume\n")


def test_resume_counts_what_had_ended():
    out = io.StringIO()
    console = Console(plan(), 4, stream=out, clock=Clock())
    console.load_earlier([record(0, (0.9,)), record(1, (0.8,), State.PRUNED), record(2, (), State.RUNNING)])
    console.ended(record(2, (0.85,)))
    assert "resumed: 2 trials had ended before" in out.getvalue()
    assert "3 of 4 trials ended: 2 complete, 1 stopped early; best" in out.getvalue()
    assert "best so far" not in out.getvalue()


def test_one_of_a_thing_is_singular():
    out = io.StringIO()
    Console(plan(), 4, stream=out, clock=Clock()).load_earlier([record(0, (0.9,))])
    assert "resumed: 1 trial had ended before" in out.getvalue()
    text = plan_text(plan(trials=1, max_epochs=1, confirm_seeds=1, epoch_budget=1))
    for part in (
        "search: 1 trial of aoe",
        "5 trainings of up to 1 epoch\n",
        "on 1 fresh seed, ",
        "after 1 epoch of",
    ):
        assert part in text


def test_answer(tmp_path):
    made, out = realistic(), io.StringIO()
    Console(made.plan, 40, stream=out).answer(made, tmp_path)
    text = out.getvalue()
    for part in (
        f"winner: trial {made.best.number}",
        "outliers.sigma = ",
        "mean and 95 % interval over 5 fresh seeds",
        "claim supported",
        str(tmp_path / "report.html"),
        made.ui_command,
        *made.links.values(),
    ):
        assert part in text
    assert "test metric winner oe no_attack signnoise gauss" in " ".join(text.split())


def test_answer_without_anything():
    out = io.StringIO()
    Console(plan(), 20, stream=out).answer(result(), Path("x"))
    assert "no trial of the search is complete" in out.getvalue()


def test_a_failure_is_left_to_the_last_line_of_the_launch(tmp_path):
    out = io.StringIO()
    console = Console(plan(), 20, log=tmp_path / "console.log", stream=out)
    failure = "nothing to confirm: no trial of the search is complete"
    console.answer(result(), Path("x"), failure)
    console.close()
    assert "no trial of the search is complete" not in out.getvalue()
    assert (tmp_path / "console.log").read_text().splitlines()[-1].endswith(f"Z {failure}")


def test_terminal_shows_one_bar_and_one_table():
    made, out = realistic(10), Terminal()
    play(Console(made.plan, 20, stream=out, clock=Clock(), width=120, plain=False), made)
    text = out.getvalue()
    assert "20/20" in text
    assert "val. accuracy" in text
    assert "\x1b[?25h" in text  # the cursor is given back
    assert "claim supported" in text


def test_redrawing_is_paced():
    out, clock = Terminal(), Clock()
    clock.__class__ = type("Still", (Clock,), {"__call__": lambda self: 5.0})
    console = Console(plan(), 20, stream=out, clock=clock, width=100, plain=False)
    console.started(record(0, (), State.RUNNING))
    drawn = len(out.getvalue())
    for _ in range(50):
        console.epoch(record(0, (0.5,), State.RUNNING), 1)
    assert len(out.getvalue()) == drawn
    console.close()


@pytest.mark.parametrize("plain", [True, False])
def test_a_closed_screen_stops_nothing(tmp_path, plain):
    made = realistic(10)
    play(
        Console(made.plan, 20, log=tmp_path / "log", stream=Gone(), plain=plain, clock=Clock(), width=80),
        made,
    )
    assert "claim supported" in (tmp_path / "log").read_text("utf-8")


def test_a_closed_stream_stops_nothing():
    out = io.StringIO()
    console = Console(plan(), 20, stream=out)
    out.close()
    console.note("nobody listens")
    assert console.out.closed_by_reader


def test_a_terminal_that_was_closed_stops_nothing():
    terminal, other = pty.openpty()
    console = Console(
        plan(), 20, stream=io.TextIOWrapper(io.FileIO(other, "w"), write_through=True), plain=True
    )
    os.close(terminal)
    console.note("nobody listens")
    assert console.out.closed_by_reader


@pytest.mark.parametrize("plain", [True, False])
def test_ascii_terminal(plain):
    made, out = realistic(10), Ascii()
    play(Console(made.plan, 20, stream=out, plain=plain, clock=Clock(), width=100), made)
    assert "+/-" in out.getvalue()
    assert "(eps 0.1)" in out.getvalue()


def test_a_closed_pipe_makes_no_noise_at_exit():
    code = (
        "import sys, time; from tuner.console.safe_stream import SafeStream\n"
        "out = SafeStream(sys.stdout)\n"
        "for _ in range(2000): out.write('x' * 100 + '\\n'); out.flush()\n"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""


def test_other_value_errors_are_not_swallowed():
    class Odd(io.StringIO):
        def write(self, text):
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        SafeStream(Odd()).write("x")


def test_importing_is_light():
    heavy = ("torch", "ray", "optuna", "mlflow", "matplotlib", "scipy", "numpy", "rich")
    code = f"import sys, tuner.console.progress; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plan_text():
    text = plan_text(plan())
    for part in (
        "loguniform(0.25, 4.0)",
        "choice(fgsm, pgd, mifgsm, eba, eba_pgd)",
        "20 to epoch 1, 7 to epoch 3, 3 to epoch 9",
        "epochs: 104 with every rung cutting, 360 with none",
        "digits-open: 6 ID classes, images 1 x 8 x 8, built in",
        "val/accuracy/clean >= pretrained - 0.01",
        "maximize val/robust_auroc_0.1/near",
        "25 trainings of up to 9 epochs",
        "signnoise  control: random signs of the same epsilon",
        "checkpoints: about 403 kB each; about 16.1 MB",
        "stages     search, evaluate, confirm, report",
    ):
        assert part in text
    assert "no interval" in plan_text(plan(stages=("search",)))
    assert "checkpoints: 1.5 MB each" in plan_text(plan(), checkpoint_bytes=1_500_000)
    assert "no new trials after 30 min 00 s" in plan_text(plan(time_budget_s=1800.0))


def test_checkpoint_size_golden():
    lane = plan().lanes[0]
    assert checkpoint_size(lane) == 33_546 * 4 * 3
    assert (
        checkpoint_size(replace(lane, fixed={**lane.fixed, "optimizer": "sgd", "network": "wrn_40_2"}))
        == 2_243_546 * 4 * 2
    )
    searched = {**lane.space, "network": Choice(("small_cnn", "resnet50"))}
    assert checkpoint_size(replace(lane, space=searched)) == 23_528_522 * 4 * 3
    assert checkpoint_size(replace(lane, fixed={**lane.fixed, "network": "new"})) is None
