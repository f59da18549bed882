"""How far a run is: counts, rate and time left by hand, and which trials count for an arm."""

from dataclasses import replace

import pytest

from tests.unit.study_results import CLEAN, plan, record
from tuner.base.records import State
from tuner.console.run_progress import RunProgress, clock_text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(clock: Clock | None = None) -> RunProgress:
    made = plan(10)
    return RunProgress(replace(made, arms=made.arms[:2]), {"search": 20, "confirm": 15}, clock or Clock())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (59.9, "00:59"), (3599, "59:59"), (3600, "1:00:00")]
)
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_no_rate_before_there_is_one() -> None:
    clock = Clock()
    run = progress(clock)
    run.load_earlier([record(n, (0.5,)) for n in range(10)])
    run.begin("search", "")
    clock.now = 60
    assert run.state(80).pace == ""
    run.ended(record(10, (0.5,)))
    assert run.state(80).pace == ""
    run.ended(
        record(11, (0.5,))
    )  # two in a minute, eight are left; the ten of the launch before do not count
    assert run.state(80).pace == "2 per min · about 4 min 00 s left of this stage"


def test_a_stage_without_trials_has_a_rate_of_its_own() -> None:
    """The first of twelve tells when counting began: two more in 20 s leave nine, at 6 a minute."""
    clock = Clock()
    run = progress(clock)
    run.begin("evaluate", "")
    assert (run.state(80).total, run.state(80).pace) == (0, "")
    for clock.now, done in ((100.0, 1), (110.0, 2), (120.0, 3)):
        run.count(done, 12, "evaluated")
    assert run.state(80).pace == "6 per min · about 1 min 30 s left of this stage"
    run.begin("confirm", "")
    assert (run.state(80).done, run.state(80).total) == (0, 15)  # trainings again
    run.count(1, 4, "evaluated")
    run.follow(record(0, (), State.RUNNING, lane="confirm"))
    assert run.state(80).total == 15


def test_only_trials_of_this_launch_run() -> None:
    run = progress()
    run.load_earlier([record(0, (0.5,), State.RUNNING)])  # it waits to be continued
    assert run.state(80).running == []
    for number in range(9):
        run.follow(record(number, (0.5,), State.RUNNING))
    assert run.state(80).running == ["0000 1/9", "0001 1/9", "0002 1/9", "+6 more"]
    run.ended(record(0))
    assert run.state(200).running[:1] == ["0001 1/9"]


def test_the_newest_trial_of_an_arm_and_seed_counts() -> None:
    """A run that was extended has the trials of a former winner too."""
    run = progress()
    run.begin("confirm", "")
    arms = [arm.name for arm in run.plan.arms]
    run.load_earlier([record(0, (0.5,) * 9, lane="confirm", arm="best", seed_index=0)])
    run.ended(record(3, (0.7,) * 9, lane="confirm", arm="best", seed_index=0))
    run.ended(record(4, (0.9,) * 9, lane="confirm", arm="best", seed_index=1))
    run.ended(record(5, (0.5,), State.FAIL, lane="confirm", arm=arms[0], seed_index=0))
    table = run.state(80).table
    assert [list(row) for row in table.rows] == [
        ["winner", "", "2/5", "80.0 %"],
        [arms[0], "", "0/5", "-"],
        [arms[1], "", "0/5", "-"],
    ]


def test_an_arm_is_complete_or_failed_when_all_of_its_seeds_have_ended() -> None:
    run = progress()
    run.begin("confirm", "")
    first, second = (arm.name for arm in run.plan.arms)
    for seed in range(5):
        run.ended(record(seed, (0.7,) * 9, lane="confirm", arm="best", seed_index=seed))
        state = State.FAIL if seed else State.COMPLETE
        run.ended(record(10 + seed, (0.7,) * 9, state, lane="confirm", arm=first, seed_index=seed))
    run.follow(record(20, (), State.RUNNING, lane="confirm", arm=second, seed_index=0))
    assert [row[1] for row in run.state(80).table.rows] == ["complete", "failed", "running"]
    run.begin("report", "")
    assert [row[1] for row in run.state(80).table.rows] == ["complete", "failed", "running"]
    assert progress().state(80).table.header[0] == "trial"


def test_trials_below_a_floor_come_last_and_failed_ones_are_left_out() -> None:
    run = progress()
    run.reference = {CLEAN: 1.0}  # a floor of 0.99, which 0.98 misses
    run.ended(record(0, (0.9,)))
    run.reference = {CLEAN: 0.985}
    run.ended(record(1, (0.6,)))
    run.ended(record(2, (0.8,), State.FAIL))
    run.reference = {CLEAN: 1.0}
    assert [row[:2] for row in run.state(80).table.rows] == [["0", "below floor"], ["1", "below floor"]]
    assert run.best is not None
    assert run.best.number == 1
