"""A study whose trials share a process, beside the same study with a process each; and a worker that dies."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench, bench_in
from tests.faults.conftest import at
from tests.integration.conftest import Launcher
from tests.integration.test_main_job import client, rows
from tuner.base.records import State
from tuner.execution.trial_queue import MAX_LOST_WORKERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
VALIDATE, WRITE = "trainables.ray.trial_runner:validate", "trainables.base.storage:Folder.write"
STUDY = [
    *("--study", "adversarial_baselines", "--trials", "2", "--max-epochs", "3", "--stages", "search,report"),
    *("--sampler", "random", "--scheduler", "none", "--concurrency", "1", "--set", "attack.steps=3"),
]


@pytest.mark.long
def test_packed_or_not_a_study_has_the_same_trials(launcher: Launcher) -> None:
    """Four searches of two trials each, in pairs; the numbers differ as between two processors."""
    found, runs = {}, {}
    for wish in ("2", "off"):
        done = launcher.run(*STUDY, "--run-name", f"pack-{wish}", "--pack", wish, timeout=400)
        assert done.code == 0, done.out + done.err
        found[wish] = [*rows(launcher, f"pack-{wish}"), *rows(launcher, f"pack-{wish}", "arms.csv")]
        runs[wish] = launcher.folder / "runs" / f"pack-{wish}"
    assert len(found["2"]) == len(found["off"]) == 8
    for packed, alone in zip(found["2"], found["off"], strict=True):
        assert packed.keys() == alone.keys()
        for name, value in alone.items():
            if name.startswith("val/") and value:
                assert float(packed[name]) == pytest.approx(float(value), abs=0.06), name
            elif "seconds" not in name:
                assert packed[name] == value, name
    assert epochs(runs["2"])[:4] == ["0000 epoch 1", "0001 epoch 1", "0000 epoch 2", "0001 epoch 2"]
    assert epochs(runs["off"])[:3] == [f"0000 epoch {number}" for number in (1, 2, 3)]
    logs = [path.read_text() for path in runs["2"].glob("logs/*")]
    assert not any("trained alone" in text for text in logs)
    checkpoints = [sorted(str(p.relative_to(run)) for p in run.rglob("epoch-*.pt")) for run in runs.values()]
    assert checkpoints[0] == checkpoints[1]
    store = client(launcher)
    experiment = store.get_experiment_by_name("adversarial_baselines").experiment_id
    for wish in found:
        (parent,) = store.search_runs([experiment], f"tags.run = 'pack-{wish}'")
        query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        assert len(store.search_runs([experiment], query)) == 8


def epochs(run: Path) -> list[str]:
    """Return what the console said of epochs, in its order."""
    return re.findall(r"trial (\d+ epoch \d+)", (run / "console.log").read_text())


# -- workers that die --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from bench_in(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(started: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    from tests.faults import bench as module

    monkeypatch.setitem(module.FIXED, "dropout", 0.0)
    started.folder = tmp_path
    return started


def complete(bench: Bench) -> dict[str, int]:
    """Check that every trial has every epoch once, and return {trial: starts}."""
    records = bench.store().records()
    assert [r.state for r in records] == [State.COMPLETE] * len(records), [r.reason for r in records]
    assert all(list(r.history) == [1, 2, 3] for r in records)
    return {r.key: r.attempt for r in records}


def test_a_killed_pack_loses_an_epoch_of_each_at_most(bench: Bench) -> None:
    """The third of four dies while it saves its second epoch: two have saved and not reported, two have not trained."""
    trained = at(VALIDATE, "nothing", times=1000)
    bench.run(at(WRITE, "kill", "0002/epoch-0002"), trained, trials=4, pack=4)
    assert complete(bench) == {"0000": 2, "0001": 2, "0002": 2, "0003": 2}
    assert bench.faults.count(1) == 12 + 3  # of the second epoch three were validated before
    assert "worker lost" in bench.logs["0000"]


@pytest.mark.long
def test_a_trial_that_kills_its_workers_takes_nobody_along(bench: Bench) -> None:
    bench.run(at(WRITE, "kill", "0001/epoch-0002", times=100), trials=4, pack=4)
    records = bench.store().records()
    states = [r.state for r in records]
    assert states == [State.COMPLETE, State.FAIL, State.COMPLETE, State.COMPLETE]
    assert records[1].reason.endswith(f"({MAX_LOST_WORKERS} times)")
    assert [r.attempt for r in records] == [2, MAX_LOST_WORKERS, 2, 2]


def test_a_pack_that_was_interrupted_goes_on_with_or_without_packing(bench: Bench) -> None:
    """Stopped after the first epochs; then without packing to the end, with more trials in packs of two."""
    bench.run(trials=3, stop_after=3, pack=4)
    assert {r.state for r in bench.store().records()} == {State.RUNNING}
    bench.run(trials=3)
    assert complete(bench) == {"0000": 2, "0001": 2, "0002": 2}
    bench.run(trials=6, pack=2, workers=2)
    assert complete(bench).keys() == {f"{k:04d}" for k in range(6)}


def test_a_failing_trial_leaves_its_pack(bench: Bench) -> None:
    """Its place is taken by the next; what it was is in the storage."""
    bench.run(at(WRITE, "raise", "0000/epoch-0001", error="ValueError('no')"), trials=4, pack=2)
    records = bench.store().records()
    assert [r.state for r in records] == [State.FAIL, *[State.COMPLETE] * 3]
    assert records[0].reason == "ValueError: no"
