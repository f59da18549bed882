"""What can happen inside and around a worker: the trial ends as it should, the others do not notice."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bench import Bench, bench_in, results
from tests.faults.conftest import at
from tuner.base.errors import StudyHalted
from tuner.base.records import State, TrialRecord
from tuner.execution.ray_tune_adapter import FirstError, QueueScheduler, capture_first_error
from tuner.execution.trial_queue import MAX_LOST_WORKERS
from tuner.execution.watchdog import Watchdog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
METRIC = "val/accuracy/clean"
BUILD, STEP, BATCH = (
    "trainables.ray.trial_runner:TrialRunner._build",
    "trainables.ray.trial_runner:TrialRunner._step",
    "trainables.training.method:Trainer.step",
)
VALIDATE, WRITE = "trainables.ray.trial_runner:validate", "trainables.base.storage:Folder.write"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from bench_in(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(started: Bench, tmp_path: Path) -> Bench:
    started.folder = tmp_path
    return started


@pytest.fixture(scope="module")
def calm(started: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two trials that nothing happened to."""
    started.folder = tmp_path_factory.mktemp("calm")
    found = started.run()
    assert [r.state for r in found] == [State.COMPLETE] * 2
    return results(found)


def failed_alone(records: list[TrialRecord], calm: list[Any]) -> str:
    """Check that the first trial failed and the second is untouched; return the reason."""
    assert [r.state for r in records] == [State.FAIL, State.COMPLETE], [r.reason for r in records]
    assert results(records)[1] == calm[1]
    assert "\n" not in records[0].reason
    return records[0].reason


def test_a_killed_worker_costs_one_epoch_at_most(bench: Bench, calm: list[Any]) -> None:
    trained = at(VALIDATE, "nothing", times=1000)
    assert results(bench.run(at(BATCH, "kill", call=12), trained)) == calm
    assert bench.faults.count(1) == 6  # the killed epoch never came to its validation
    bench.folder /= "late"
    bench.folder.mkdir()
    assert results(bench.run(at(WRITE, "kill", "0000/epoch-0002", after=True), trained)) == calm
    assert bench.faults.count(1) == 7  # trained, saved and not reported: trained once more
    assert [r.attempt for r in bench.store().records()] == [2, 1]


def test_a_trial_that_kills_its_workers_fails(bench: Bench, calm: list[Any]) -> None:
    reason = failed_alone(bench.run(at(WRITE, "kill", "0000/epoch-0002", times=100)), calm)
    assert re.match(r"worker lost: The actor .*died", reason), reason
    assert reason.endswith(f"({MAX_LOST_WORKERS} times)")
    assert bench.store().record(0).epochs == 1


def test_exceptions_and_bad_reports_fail_their_trials_alone(bench: Bench) -> None:
    """One study, one broken trial after the other; calls are counted over the whole study, one worker makes them."""
    wanted = (
        (at(BUILD, "raise", error="ValueError('bad\\nnews')"), "ValueError: bad"),
        (at(STEP, "raise", error="RuntimeError('no luck')", call=2), "RuntimeError: no luck"),
        (at(STEP, "raise", error="MemoryError()", call=3), "out of memory"),
        (at(STEP, "raise", error="KeyError('x')", call=4), "KeyError: 'x'"),
        (
            at(WRITE, "raise", "0004/epoch-0002", error="OSError(5, 'I/O error')"),
            "OSError: [Errno 5] I/O error",
        ),
        # validations so far: one of trial 1, two of trial 4
        (at(VALIDATE, "set", name=METRIC, value="nan", call=4, after=True), f"{METRIC} is nan after epoch 1"),
        (
            at(VALIDATE, "set", name=METRIC, value="-inf", call=6, after=True),
            f"{METRIC} is -inf after epoch 2",
        ),
        (at(VALIDATE, "drop", name=METRIC, call=8, after=True), f"the report of epoch 2 lacks {METRIC}"),
    )
    found = bench.run(*(fault for fault, _ in wanted), trials=len(wanted) + 1)
    assert [r.reason for r in found] == [*(reason for _, reason in wanted), ""]
    assert [r.state for r in found] == [State.FAIL] * len(wanted) + [State.COMPLETE]
    assert [r.epochs for r in found] == [0, 1, 0, 0, 1, 0, 1, 1, 3]
    assert [r.attempt for r in found] == [1] * len(found)
    for number in range(5):
        assert "Traceback" in bench.logs[f"{number:04d}"]


def test_a_hung_worker_is_ended_and_its_trial_fails(bench: Bench) -> None:
    """Asleep for ever in Python; and stopped altogether, as by a file system that never answers."""
    limit = 60.0 if os.getloadavg()[0] > 4 else 20.0
    faults = at(BATCH, "hang", call=12), at(BATCH, "freeze", call=13)
    found = bench.run(*faults, trials=4, workers=2, epoch_timeout_s=limit)
    hung = [r for r in found if r.state is State.FAIL]
    assert len(hung) == 2
    for record in hung:
        assert record.reason.startswith("hung: no report for ")
        assert record.reason.endswith(f"s (limit {limit:.0f} s)")
    assert [r.state for r in found].count(State.COMPLETE) == 2
    pids = {int(line.split()[0]) for line in bench.faults.fired}
    assert len(pids) == 2
    for _ in range(100):
        if not any(map(alive, pids)):
            break
        time.sleep(0.1)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_watchdog_is_patient_with_what_it_does_not_know() -> None:
    assert Watchdog(None).limit == 4 * 3600
    assert Watchdog(None, longest_s=3.0).limit == 600
    assert Watchdog(None, longest_s=90.0).limit == 900
    assert Watchdog(5.0, longest_s=90.0).limit == 5


@pytest.mark.parametrize(("damaged", "lost"), [((2,), 1), ((1, 2), 2)])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
    bench: Bench, calm: list[Any], damaged: tuple[int, ...], lost: int
) -> None:
    """One bit is wrong; without a sound file left the trial starts over. It comes to the same either way."""
    bench.run(at(STEP, "hang", call=3), stop_after=2)  # a third epoch's file would take the first's place
    for epoch in damaged:
        path = bench.checkpoint(0, epoch)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert results(bench.run(at(VALIDATE, "nothing", times=1000))) == calm
    assert bench.faults.count(0) == 4 + lost
    for epoch in damaged:
        assert f"epoch-{epoch:04d}.pt is not a readable checkpoint: checksum of " in bench.logs["0000"]


def test_a_full_disk_halts_the_study_and_costs_no_trial(bench: Bench, calm: list[Any]) -> None:
    full = at(WRITE, "raise", "0000/epoch-0002", error="OSError(28, 'No space left on device')")
    with pytest.raises(StudyHalted, match=r"trial 0000 cannot write: OSError: \[Errno 28\].*; make room"):
        bench.run(full)
    assert [r.state for r in bench.store().records()] == [State.RUNNING]
    assert results(bench.run()) == calm


def test_what_the_database_raises_comes_out_as_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Tune it would be a TuneError whose message is a traceback."""

    def broken(self: Any, controller: Any, trial: Any, result: Any) -> str:
        raise ZeroDivisionError("database")

    monkeypatch.setattr(QueueScheduler, "on_trial_result", capture_first_error("STOP")(broken))
    with pytest.raises(ZeroDivisionError, match="database"):
        bench.run()
    assert [r.state for r in bench.store().records()] == [State.RUNNING]


def test_only_the_first_exception_counts() -> None:
    class Called:
        first_error = FirstError()

        @capture_first_error("stop")
        def hook(self, value: float) -> float:
            return 1 / value

    called = Called()
    assert called.hook(2.0) == 0.5
    assert called.hook(0.0) == "stop"
    assert called.hook(2.0) == "stop"
    assert isinstance(Called.first_error.error, ZeroDivisionError)
