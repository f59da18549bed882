"""Budgets and usage, by hand, and a queue that stops handing out trials."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.study_results import plan, record
from tests.unit.tuner.execution.test_trial_queue import Storage, metrics_of, queue_of
from tuner.console.preview import plan_text
from tuner.planning import cost_history
from tuner.search.budget import SearchBudget, Usage, share_of
from tuner.search.schedulers import schedule

NEVER = schedule("none", 1, 3, 4)


def test_usage_by_hand() -> None:
    """Two epochs of 3 s on a quarter of a GPU, one of 5 s on two CPUs: 11 s, 1.5 GPU-seconds, 10 CPU-seconds."""
    used = Usage()
    for metrics in ({"seconds": 3.0, "gpu_seconds": 0.75},) * 2 + ({"seconds": 5.0, "cpu_seconds": 10.0},):
        used = used.plus(metrics)
    assert used == Usage(3, 11.0, 1.5, 10.0)
    assert Usage.of([record(0, (0.1, 0.2)), record(1, (0.3,))]) == Usage(3, 4.5)


def test_share() -> None:
    assert share_of(2, 0.25) == {"gpu_seconds": 0.25}
    assert share_of(2, 0.0) == {"cpu_seconds": 2.0}


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (SearchBudget(), False),
        (SearchBudget(epochs=4), False),
        (SearchBudget(epochs=3), True),
        (SearchBudget(seconds=11.6), False),
        (SearchBudget(seconds=11.5), True),  # 1.5 + 10
        (SearchBudget(epochs=4, seconds=1.0), True),
    ],
)
def test_spent(budget: SearchBudget, spent: bool) -> None:
    assert budget.is_spent(Usage(3, 11.0, 1.5, 10.0)) is spent


@pytest.mark.parametrize(
    ("budget", "trials"),
    [
        (SearchBudget(epochs=9), 3),
        (SearchBudget(epochs=8), 2),
        (SearchBudget(seconds=2.25), 3),
        (SearchBudget(seconds=100.0), 12),
    ],
)
def test_no_trial_starts_once_the_budget_is_spent(tmp_path: Path, budget: SearchBudget, trials: int) -> None:
    """Trials of 4 epochs of 1 s on a quarter of a GPU: 9 epochs or 2.25 GPU-seconds are passed in the third.

    A launch after every trial counts what the ones before it have used.
    """
    storage, ended = Storage(tmp_path), 0
    while True:
        lanes = storage.lanes(two=False)
        queue = queue_of(lanes, schedule=NEVER, budget=budget, usage_rates={"gpu_seconds": 0.25})
        assignment = queue.next()
        if assignment is None:
            assert queue.finished
            break
        for epoch in range(1, 5):
            queue.report(assignment.key, epoch, metrics_of(assignment, epoch), "c")
        ended += 1
    assert ended == trials
    assert lanes[0].store.record(0).judged["gpu_seconds"] == 0.25
    assert queue.usage == Usage(4 * trials, 4.0 * trials, 1.0 * trials)


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for epochs, expected in ((1, 1), (5, 2), (9, 3)):
        lanes = storage.lanes(two=False)
        queue = queue_of(lanes, schedule=NEVER, budget=SearchBudget(epochs=epochs))
        while (assignment := queue.next()) is not None:
            for epoch in range(1, 5):
                queue.report(assignment.key, epoch, metrics_of(assignment, epoch), "c")
        assert len(lanes[0].store.records()) == expected


def measure(root: Path, name: str, lanes: tuple[str, ...] = ("search", "oe")) -> None:
    """Write the usage of a run with one trial of 2 epochs of 1.5 s per lane."""
    records = [record(0, (0.1, 0.2), lane=lane) for lane in lanes]
    (root / name).mkdir()
    text = json.dumps(cost_history.to_json(plan(run_name=name), records))
    (root / name / cost_history.FILE).write_text(text)


def test_the_pace_of_earlier_runs(tmp_path: Path) -> None:
    assert cost_history.measured(str(tmp_path / "nothing"), plan()) == {}
    measure(tmp_path, "one")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / cost_history.FILE).write_text('{"dataset": "dig')
    found = cost_history.measured(str(tmp_path), plan())
    assert found == {name: cost_history.MeasuredCost(1.5, 0.0, 0.0, "one") for name in ("search", "oe")}
    assert cost_history.measured(str(tmp_path), plan(dataset="digits")) == {}
    other = plan()
    other = replace(other, lanes=tuple(replace(lane, method="oe") for lane in other.lanes))
    assert cost_history.measured(str(tmp_path), other) == {}


def test_the_preview_tells_time_only_where_it_was_measured(tmp_path: Path) -> None:
    """20 trials a lane: 52 to 180 epochs each; at 1.5 s 2 x 78 s to 2 x 270 s; 25 confirm trainings of 13.5 s."""
    assert "time: unknown; no earlier run here has measured search, oe on digits-open" in plan_text(plan())
    measure(tmp_path, "half", ("search",))
    half = plan_text(plan(), costs=cost_history.measured(str(tmp_path), plan()))
    assert "has measured oe on digits-open" in half
    measure(tmp_path, "one")
    text = plan_text(plan(), costs=cost_history.measured(str(tmp_path), plan()))
    assert "epochs: 104 with every rung cutting, 360 with none" in text
    times = "time: about 2 min 36 s to 9 min 00 s, and 5 min 38 s for the confirm stage, summed over trials"
    assert f"  {times}; evaluations come on top\n" in text
    short = plan_text(plan(stages=("search",)), costs=cost_history.measured(str(tmp_path), plan()))
    assert "time: about 2 min 36 s to 9 min 00 s, summed over trials\n" in short
    assert "(at the pace of one)" in text
    assert "GPU time" not in text


def test_the_preview_names_the_rule_and_the_budgets() -> None:
    """Median, grace 1, 20 trials of 9 epochs in 2 lanes: 2 * (5 * 9 + 15 * 1) = 120 at the fewest."""
    text = plan_text(plan(sampler="gp", scheduler="median", epoch_budget=100, gpu_budget_s=7200.0))
    assert "trials, chosen by gp, stopped by median" in text
    assert "epochs: 120 with the most early stopping, 360 with none" in text
    assert "no new trials after 100 epochs of training" in text
    assert "no new trials once 2 h 00 min of GPU are used" in text
    assert "epochs: 360\n" in plan_text(plan(scheduler="none"))
