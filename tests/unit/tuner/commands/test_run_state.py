"""What --status and --why say of stored runs; values and places are worked out by hand."""

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runs import METRIC, StoredRun
from trainables.base.storage import Folder
from tuner.base.records import State
from tuner.base.signals import Signals
from tuner.cli import run as launch
from tuner.commands.run_state import RunState, read_run, read_runs
from tuner.commands.status import time_text
from tuner.commands.supervisor import announce_restart
from tuner.planning.plan import to_dict
from tuner.store.lease import Lease
from tuner.store.lease_claims import Claim, machine, process_start, read_claims
from tuner.store.restart import announced

ROOT = Path(__file__).resolve().parents[4]


def finished_rung(root: Path) -> StoredRun:
    """Five trials at rung 1; the best third, rounded up, goes on: 1 of 1, 1 of 2, 1 of 3, 2 of 4, 2 of 5.

    .5 is first of 1 and goes on to the end; .4 is second of 2; .6 is first of 3; at rung 3 it is first of 2 and
    goes on too; .3 is fourth of 4; .55 is second of 5 and goes on to rung 3, where .58 is third of 3.
    """
    run = StoredRun(root)
    queue = run.queue()
    run.trial(queue, [0.5, 0.51, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66])
    run.trial(queue, [0.4])
    run.trial(queue, [0.6, 0.61, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.8], clean=0.90)
    run.trial(queue, [0.3])
    run.trial(queue, [0.55, 0.56, 0.58])
    return run


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = launch(arguments)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out + err


def test_an_interrupted_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_rung(tmp_path)
    run.trial(run.queue(), [0.6, 0.6])  # and then the driver was killed
    code, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    assert code == 0
    assert "run one, study aoe_sigma: interrupted, began " in text
    rows = [line.split() for line in text.splitlines()]
    assert ["trials", "planned", "complete", "stopped", "early", "failed", "waiting"] in rows
    assert ["search", "12", "2", "3", "0", "1"] in rows
    assert ["oe", "12", "0", "0", "0", "0"] in rows
    assert ["confirm", "10", "0", "0", "0", "0"] in rows  # the winner and four arms, two seeds each
    assert "trial 0005 waits to be continued: 2 of 9 epochs done, began " in text
    assert "not begun yet: 6 of search, 12 of oe, up to 10 of confirm" in text
    # trial 2 is better and misses the floor of .95 - .01
    assert "best so far: trial 0, validation robust AUROC (ε 0.1), near OOD 66.0 %" in text
    assert f"attack.epsilon = {run.lanes['search'].record(0).params['attack.epsilon']:.4g}" in text
    assert f"python launch.py --study aoe_sigma --resume one --storage {tmp_path}" in text


def test_a_run_that_has_finished_shows_its_winner_and_whether_the_claim_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_rung(tmp_path)
    run.folder.update(finished=True)
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    assert "winner: trial 0, validation robust AUROC (ε 0.1), near OOD 66.0 %" in text
    assert "\nclaim not judged: AOE beats" in text
    assert "\n  The confirm stage was not run, so there is no interval and no comparison" in text


def test_without_an_epoch_left_no_time_of_training_is_said(tmp_path: Path) -> None:
    finished_rung(tmp_path)
    run = read_run("one", str(tmp_path))
    done = replace(run.time_left, epochs=0.0, seconds=0.0)
    says = "time left: no training; evaluation and report are under way or to come"
    assert time_text(done) == says


def test_the_time_left_is_worked_out_from_measured_epochs(tmp_path: Path) -> None:
    """Ended: 9 + 1 + 9 + 1 + 3 epochs, mean 4.6. To begin: 6 + 12 trials, 82.8 epochs; running: 7; confirm: 10 x 9."""
    run = finished_rung(tmp_path)
    run.trial(run.queue(), [0.6, 0.6])
    left = read_run("one", str(tmp_path)).time_left
    assert left.epochs == pytest.approx(82.8 + 7 + 90)
    assert left.per_epoch == 2.0
    assert left.measured == 25
    assert left.seconds == pytest.approx(2 * 179.8)


def test_why_a_trial_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_rung(tmp_path)
    code, text = ask(capsys, "--why", "one", "4", "--storage", str(tmp_path))
    assert code == 0
    assert "trial 0004 of run one (search): PRUNED at epoch 3 of 9, 6.0 s of training" in text
    assert "reason: stopped at epoch 3" in text
    assert "at epoch 1: 55.0 %, 2nd of 5 when it was decided: went on" in text
    assert "at epoch 3: 58.0 %, 3rd of 3 when it was decided: stopped" in text
    assert "started once: 20" in text
    assert "checkpoint: checkpoints/0004/epoch-0003.pt" in text
    assert "its log is empty: nothing went wrong" in text
    _, text = ask(capsys, "--why", "one", "0", "--storage", str(tmp_path))
    assert "at epoch 1: 50.0 %, 1st of 1 when it was decided (3rd of 5 by now): went on" in text
    assert "at epoch 3: 60.0 %, 1st of 1 when it was decided (2nd of 3 by now): went on" in text


def test_why_a_trial_cannot_win_and_why_one_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_rung(tmp_path)
    _, text = ask(capsys, "--why", "one", "0002", "--storage", str(tmp_path))
    assert "floor: validation clean accuracy 90.0 %, at least 94.0 %: missed, so it cannot win" in text
    queue = run.queue()
    run.trial(queue, [0.9])
    for _ in range(2):
        run.folder.log("0005", "worker lost: The actor died\nunexpectedly")
        queue.worker_lost("0005", "worker lost")
        assert queue.next() is not None
    queue.failed("0005", "TrainingFailed: diverged")
    run.folder.log("0005", "FAIL TrainingFailed: diverged")
    _, text = ask(capsys, "--why", "one", "5", "--storage", str(tmp_path))
    assert "FAIL at epoch 1 of 9" in text
    assert "reason: TrainingFailed: diverged" in text
    assert "started 3 times: 20" in text
    assert "workers lost: 2" in text
    assert text.rstrip().endswith("FAIL TrainingFailed: diverged")


def test_a_search_without_a_winner_needs_more_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = StoredRun(tmp_path, trials=2)
    queue = run.queue()
    run.trial(queue, [0.5] * 9, clean=0.90)
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    resume = f"  python launch.py --study aoe_sigma --resume one --storage {tmp_path}"
    assert text.partition("to go on:\n")[2].splitlines()[0] == resume
    run.trial(queue, [0.4])
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    assert text.partition("to go on:\n")[2].splitlines()[0] == f"{resume} --trials 4"
    floor = "validation clean accuracy at most 1 point below the pretrained classifier's"
    assert f"best so far: none of the 1 complete trials meets the floors ({floor})\n" in text


@pytest.mark.parametrize(
    ("scheduler", "values", "says"),
    [
        ("none", [0.5] * 9, "compared with no other trial: every trial trains to its end"),
        ("median", [0.5] * 9, "went on at every comparison"),
        ("asha", [], "compared with no other trial yet; the first comparison is at epoch 1"),
    ],
)
def test_a_trial_that_was_compared_with_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheduler: str, values: list[float], says: str
) -> None:
    run = StoredRun(tmp_path)
    run.plan = replace(run.plan, scheduler=scheduler)
    run.folder.update(plan=to_dict(run.plan))
    run.trial(run.queue(), values)
    _, text = ask(capsys, "--why", "one", "0", "--storage", str(tmp_path))
    assert text.splitlines()[2] == says


def test_trials_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_rung(tmp_path)
    run.trial(run.queue("oe"), [0.5])
    for name in ("oe-0000", "oe-0"):
        code, text = ask(capsys, "--why", "one", name, "--storage", str(tmp_path))
        assert code == 0
        assert "trial oe-0000 of run one (baseline): interrupted after epoch 1 of 9" in text
    for name in ("5", "oe-1", "signnoise-0", "best", "-1"):
        code, text = ask(capsys, "--why", "one", name, "--storage", str(tmp_path))
        assert code == 2, name
        assert len(text.strip().splitlines()) == 1
        if name != "-1":  # reads as an option
            assert f"no trial '{name}'; it has 0000 to 0004, oe-0000 to oe-0000" in text


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"finished": True, "ended": {"state": "done"}}, "done"),
        ({"ended": {"state": "done"}}, "done with search,evaluate,confirm,report only"),
        (
            {"ended": {"state": "failed", "reason": "every trial failed; most often: x"}},
            "failed: every trial failed",
        ),
        ({"ended": {"state": "interrupted", "reason": ""}}, "interrupted"),
        ({}, "interrupted"),
    ],
)
def test_how_a_run_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], says: str
) -> None:
    run = StoredRun(tmp_path)
    run.trial(run.queue(), [0.5])
    run.folder.update(**facts)
    _, text = ask(capsys, "--status", "--storage", str(tmp_path))
    assert says in text
    assert text.splitlines()[1].split()[:2] == ["one", "aoe_sigma"]
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    assert ("time left: " in text) == says.startswith("interrupted")
    _, text = ask(capsys, "--status", "one", "--json", "--storage", str(tmp_path))
    assert (json.loads(text)["seconds_left"] is not None) == says.startswith("interrupted")


def test_the_list_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "--status", "--storage", str(tmp_path)) == (0, f"no runs in {tmp_path}\n")
    nowhere = tmp_path / "nope"
    says = f"launch.py: --storage {nowhere}: there is no such folder\n"
    assert ask(capsys, "--status", "--storage", str(nowhere)) == (2, says)
    says = f"launch.py: run 'one' does not exist: there is no folder {nowhere}\n"
    assert ask(capsys, "--status", "one", "--storage", str(nowhere)) == (2, says)
    finished_rung(tmp_path)
    StoredRun(tmp_path, "two")
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{")
    code, text = ask(capsys, "--status", "--storage", str(tmp_path))
    assert code == 0
    assert "5/24    66.0 % (trial 0)" in text
    assert text.splitlines()[-1].startswith(f"run broken: {tmp_path}/broken/plan.json is damaged: ")
    assert len(text.splitlines()) == 4
    _, text = ask(capsys, "--status", "--study", "robgan", "--storage", str(tmp_path))
    assert text.splitlines()[0] == f"no runs of study robgan in {tmp_path} that can be read:"
    assert "two" not in text


def test_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "--status") == (0, f"no runs: there is no folder {tmp_path}/runs\n")
    assert ask(capsys, "--status", "--json") == (0, "[]\n")


def test_runs_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged one, and one whose database this user has never named."""
    StoredRun(tmp_path).folder.local.joinpath("plan.json").write_text("{}")
    StoredRun(tmp_path, "two", study_storage="postgresql://db/x")
    damaged = f"{tmp_path}/one/plan.json is damaged: created is missing; restore it from a copy"
    away = "plan.json of run 'two' names the study storage postgresql://db/x; give it with --study-storage to read it"
    lines = [f"no runs in {tmp_path} that can be read:", f"run one: {damaged}", f"run two: {away}", ""]
    assert ask(capsys, "--status", "--storage", str(tmp_path)) == (0, "\n".join(lines))
    entries = [
        {"run": "one", "state": "damaged", "reason": damaged},
        {"run": "two", "state": "unreadable", "reason": away},
    ]
    code, text = ask(capsys, "--status", "--json", "--storage", str(tmp_path))
    assert (code, json.loads(text)) == (0, entries)
    for entry in entries:
        code, text = ask(capsys, "--status", entry["run"], "--json", "--storage", str(tmp_path))
        assert (code, json.loads(text)) == (0, entry)
    says = f"launch.py: {damaged}\n"
    assert ask(capsys, "--status", "one", "--storage", str(tmp_path)) == (2, says)


def test_a_trial_to_evaluate_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial that the run never had, and one whose checkpoint is gone."""
    run = StoredRun(tmp_path)
    run.trial(run.queue(), [0.5])
    shutil.rmtree(tmp_path / "one" / "checkpoints")
    words = ["--storage", str(tmp_path), "--evaluate"]
    says = "launch.py: run one has no trial '0099'; it has 0000 to 0000\n"
    assert ask(capsys, *words, "one/99") == (2, says)
    says = f"launch.py: trial 0000 of run 'one' has no checkpoint in {tmp_path}; name the root of its run folder "
    assert ask(capsys, *words, "one/0") == (2, f"{says}with --storage\n")


def test_runs_and_studies_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StoredRun(tmp_path)
    for words, says in (
        (["--status", "oen"], f"run 'oen' does not exist in {tmp_path}; did you mean one? known: one"),
        (["--status", "one", "--study", "robgan"], "run 'one' is of study aoe_sigma, not robgan"),
        (["--status", "--study", "robgn"], "unknown study 'robgn'; did you mean robgan?"),
    ):
        assert ask(capsys, *words, "--storage", str(tmp_path)) == (2, f"launch.py: {says}\n")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_rung(tmp_path)
    run.trial(run.queue(), [0.6, 0.6])
    with run.folder.lease().held(Signals()):
        _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
        assert text.splitlines()[3].endswith("  failed  running")
        _, text = ask(capsys, "--status", "one", "--json", "--storage", str(tmp_path))
    assert [(r["trial"], r["epoch"]) for r in json.loads(text)["running"]] == [("5", 2)]
    assert json.loads(text)["waiting"] == []
    _, text = ask(capsys, "--status", "one", "--json", "--storage", str(tmp_path))
    found = json.loads(text)
    assert found["running"] == []
    assert [(r["trial"], r["epoch"]) for r in found["waiting"]] == [("5", 2)]
    assert found["state"] == "interrupted"
    assert found["driver"] is None
    assert found["trials"] == {"ended": 5, "total": 24}
    assert found["lanes"]["search"] == {"COMPLETE": 2, "PRUNED": 3, "RUNNING": 1}
    assert found["best"]["trial"] == "0"
    assert found["best"]["objectives"] == {METRIC: 0.66}
    assert found["resume"].startswith("python launch.py --study aoe_sigma --resume one")
    _, text = ask(capsys, "--status", "--json", "--storage", str(tmp_path))
    assert [run["run"] for run in json.loads(text)] == ["one"]


@pytest.mark.parametrize(
    "arguments", [["--json"], ["--status", "--resume", "x"], ["--why", "x"], ["--status", "../x"], ["--stop"]]
)
def test_what_cannot_be_asked(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, text = ask(capsys, *arguments)
    assert (code, len(text.strip().splitlines())) == (2, 1)


# -- drivers -----------------------------------------------------------------------------------------------


def test_a_driver_here_and_one_that_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = StoredRun(tmp_path)
    with run.folder.lease().held(Signals()):
        found = read_run("one", str(tmp_path))
        assert found.state is RunState.RUNNING
        _, text = ask(capsys, "--status", "--storage", str(tmp_path))
        assert f"running here (process {os.getpid()})" in text
        (left,) = read_claims(run.folder.files)
    dead = subprocess.Popen(["true"])
    dead.wait()
    run.folder.files.write(left.file, replace(left, pid=dead.pid, about={"stage": "confirm"}).to_json())
    _, text = ask(capsys, "--status", "--storage", str(tmp_path))
    assert "interrupted in confirm" in text


def test_a_run_that_restarts_by_itself_advises_no_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second driver would take the run; once the supervisor is dead or late, only a resume helps."""
    run = StoredRun(tmp_path)
    run.folder.update(
        ended={"state": "failed", "reason": "the driver died", "at": "2026-11-29T12:00:00+00:00"}
    )
    announce_restart({"storage": str(tmp_path), "run": "one"}, 1, 2, 30.0)
    entry = run.folder.entries()["restart"]
    at = datetime.datetime.fromisoformat(entry["at"])
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    said = f"restarts by itself at {at.astimezone():%H:%M:%S} (restart 1 of 2)"
    assert f"run one, study aoe_sigma: {said}, began " in text
    assert "--resume" not in text
    assert said in ask(capsys, "--status", "--storage", str(tmp_path))[1]
    found = json.loads(ask(capsys, "--status", "one", "--json", "--storage", str(tmp_path))[1])
    assert (found["state"], found["restart"], found["resume"]) == (
        "restarting",
        {"at": entry["at"], "number": 1, "of": 2},
        None,
    )
    minute = datetime.timedelta(seconds=60)
    assert announced({"restart": entry}, at + minute) is not None
    assert announced({"restart": entry}, at + 1.1 * minute) is None
    elsewhere = {**entry, "machine": "another"}
    assert announced({"restart": elsewhere}, at) is not None
    dead = subprocess.Popen(["true"])
    dead.wait()
    run.folder.update(restart={**entry, "pid": dead.pid})
    _, text = ask(capsys, "--status", "one", "--storage", str(tmp_path))
    assert "run one, study aoe_sigma: failed: the driver died, began " in text
    assert "--resume one" in text


def test_a_driver_elsewhere_is_known_by_its_beats(tmp_path: Path) -> None:
    """Two runs of other machines, listened for at once: one beats, the other does not."""
    alive, dead = StoredRun(tmp_path, "alive"), StoredRun(tmp_path, "dead")
    beats = [0]

    def beat(seconds: float) -> None:
        beats[0] += 1
        for run, count in ((alive, beats[0]), (dead, 0)):
            said = {"host": "h", "pid": 7, "machine": "another", "held": True, "beat": count}
            run.folder.files.write(f"lease/{run.folder.name}.json", json.dumps(said).encode())

    beat(0)
    found, _ = read_runs(str(tmp_path), sleep=beat)
    assert {run.folder.name: run.state for run in found} == {
        "alive": RunState.RUNNING,
        "dead": RunState.SILENT,
    }
    claims = {run.folder.name: run.claim for run in found}
    assert str(claims["alive"]) == "process 7 on h"


def test_stop_ends_the_very_process_that_holds_the_lease(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    StoredRun(tmp_path)
    code, text = ask(capsys, "--stop", "one", "--storage", str(tmp_path))
    assert code == 2
    assert "run 'one' is not running: interrupted" in text
    driver = (
        "import sys, time; from tuner.base.signals import Signals; from tuner.store.run_folder import RunFolder\n"
        "signals = Signals()\n"
        "with signals.installed(), RunFolder(sys.argv[1], 'one').lease().held(signals):\n"
        "    print('held', flush=True)\n"
        "    while not signals.stop_requested(): time.sleep(0.01)\n"
        "sys.exit(signals.exit_code)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    code, text = ask(capsys, "--stop", "one", "--storage", str(tmp_path))
    assert code == 0, text
    assert f"process {process.pid} on " in text
    assert "run one is saved; 0 of 24 trials have ended. To go on:" in text
    assert process.wait(10) == 143
    assert Folder(tmp_path / "one").names("lease") == ["lock"]


def test_stop_signals_no_other_process_of_that_number(tmp_path: Path) -> None:
    from tuner.commands.stop import terminate

    (tmp_path / "elsewhere").touch()
    with (tmp_path / "elsewhere").open() as elsewhere:
        innocent = subprocess.Popen(["sleep", "60"], stdin=elsewhere)
    run = tmp_path / "run"
    run.mkdir()
    try:
        mine = Lease(Folder(tmp_path), None)._claim
        assert not terminate(Claim("a", pid=innocent.pid, machine=mine.machine, start="1"), run)
        assert not terminate(Claim("a", pid=innocent.pid, machine="another", start="1"), run)
        # all of it is right, as anybody can read it: but the process has nothing to do with the run
        start = process_start(innocent.pid)
        assert not terminate(Claim("a", pid=innocent.pid, machine=mine.machine, start=start), run)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


# -- reading disturbs nobody -------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_reading_an_ended_run_leaves_no_trace(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.unit.tuner.commands.test_run_state import finished_rung\n"
        "finished_rung(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    before = contents(tmp_path)
    assert "one/study.db" in before
    assert len(read_run("one", str(tmp_path)).records) == 5
    assert contents(tmp_path) == before


def test_reading_while_a_driver_writes(tmp_path: Path) -> None:
    """The writer ends its trials whatever is read; the reader sees every trial once and only whole ones."""
    code = f"""
from pathlib import Path
from tests.unit.runs import StoredRun
run = StoredRun(Path({str(tmp_path)!r}), trials=8)
queue = run.queue()
for i in range(8):
    run.trial(queue, [0.5 + 0.01 * i] * 9)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    seen = [0]
    while writer.poll() is None:
        found, problems = read_runs(str(tmp_path))
        assert not problems
        for run in found:
            numbers = [record.number for record in run.lane("search")]
            assert numbers == list(range(len(numbers)))
            assert all(record.configuration for record in run.records)
            seen.append(len(numbers))
    assert writer.returncode == 0
    assert seen == sorted(seen)
    done = read_run("one", str(tmp_path))
    assert len(done.records) == 8
    assert State.RUNNING not in done.counts("search")


# -- renamed and copied ------------------------------------------------------------------------------------


def test_a_renamed_run_has_its_trials_and_its_commands_name_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_rung(tmp_path).folder.local.rename(tmp_path / "two")
    _, text = ask(capsys, "--status", "--storage", str(tmp_path))
    assert "two  aoe_sigma  interrupted  5/24    66.0 % (trial 0)" in text
    _, text = ask(capsys, "--status", "two", "--storage", str(tmp_path))
    assert f"python launch.py --study aoe_sigma --resume two --storage {tmp_path}" in text
    _, text = ask(capsys, "--why", "two", "4", "--storage", str(tmp_path))
    assert "trial 0004 of run two (search): PRUNED at epoch 3 of 9" in text


def test_a_copy_is_read_as_what_it_is_and_nothing_is_done_to_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_rung(tmp_path)
    run.trial(run.queue(), [0.6, 0.6])
    with run.folder.lease().held(Signals()):
        shutil.copytree(tmp_path / "one", tmp_path / "copy")
        (tmp_path / "copy" / "study.db-shm").unlink()  # SQLite's own, made anew by who reads
        before = contents(tmp_path / "copy")
        _, text = ask(capsys, "--status", "--storage", str(tmp_path))
        assert "copy  aoe_sigma  copy of one " in text
        assert "one   aoe_sigma  running here (process " in text
        _, text = ask(capsys, "--status", "copy", "--storage", str(tmp_path))
        assert f"a copy of {tmp_path}/one, as it was then; only that one goes on" in text
        assert f"python launch.py --study aoe_sigma --resume one --storage {tmp_path}" in text
        assert "running" not in text
        _, text = ask(capsys, "--status", "copy", "--json", "--storage", str(tmp_path))
        assert (json.loads(text)["copy_of"], json.loads(text)["driver"]) == (f"{tmp_path}/one", None)
        _, text = ask(capsys, "--why", "copy", "5", "--storage", str(tmp_path))
        assert "interrupted after epoch 2 of 9; --resume one continues it" in text
        code, text = ask(capsys, "--stop", "copy", "--storage", str(tmp_path))
        assert (code, text) == (2, "launch.py: run 'copy' is not running: copy of one\n")
        code, text = ask(capsys, "--resume", "copy", "--storage", str(tmp_path))
        assert code == 2
        assert text.startswith(f"launch.py: {tmp_path}/copy is a copy of {tmp_path}/one, ")
        (tmp_path / "copy" / "study.db-shm").unlink()
        assert contents(tmp_path / "copy") == before


@pytest.mark.parametrize("said", ["x", [1], -5, 0, True, 1e308, None])
def test_a_claim_whose_concurrency_is_no_number_of_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: object
) -> None:
    run = finished_rung(tmp_path)
    expected = read_run("one", str(tmp_path)).time_left
    claim = Claim("0123456789abcdef", "here", 2**22 - 1, machine(), "1", about={"concurrency": said})
    run.folder.files.write(claim.file, claim.to_json())
    assert read_run("one", str(tmp_path)).time_left == expected
    assert ask(capsys, "--status", "one", "--storage", str(tmp_path), "--json")[0] == 0
    run.folder.files.write(claim.file, replace(claim, about={"concurrency": 3}).to_json())
    assert read_run("one", str(tmp_path)).time_left.concurrency == 3
