"""Many workers, many tiny trials: every number once, every value that of its own parameters, nothing left running."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Objective
from tests.faults.bench import ray_here
from tuner.base.records import State, TrialRole
from tuner.execution import ray_tune_adapter
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.search.schedulers import schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OBJECTIVE = Objective("val/score")
SPACE = {"x": Float(-1.0, 1.0), "n": Int(1, 9), "kind": Choice(("a", "b", "c"))}


def score(params: dict[str, Any]) -> float:
    return float(params["x"]) * int(params["n"]) + "abc".index(params["kind"])


def tiny() -> Any:
    """Return a trainable that reports `score`; made here, so that its workers need not import torch."""
    from ray import tune

    class Tiny(tune.Trainable):
        def setup(self, config: dict[str, Any], assets: Any = None) -> None:
            self.given, self.epoch = config, 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            value = self.given["x"] * self.given["n"] + "abc".index(self.given["kind"])
            return {
                "val/score": value,
                "epoch": self.epoch,
                "checkpoint": f"of {self.given['_service']['key']}",
            }

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

    return Tiny


@pytest.mark.parametrize(("workers", "trials"), [(4, 60), pytest.param(16, 500, marks=pytest.mark.long)])
def test_every_trial_once_and_every_value_its_own(
    workers: int, trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes in one database, early stopping on; the invariants of Orion's stress test and a few more."""
    monkeypatch.setattr(ray_tune_adapter, "StudyTrainable", tiny())
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    stores = [
        TrialStore(storage, name, name, role, SPACE, [OBJECTIVE], 5, "random")
        for name, role in (("search", TrialRole.SEARCH), ("other", TrialRole.BASELINE))
    ]
    queue = TrialQueue(
        [Lane(store, "tiny", {}, trials // 2, 0) for store in stores],
        [OBJECTIVE],
        seed=5,
        max_epochs=3,
        schedule=schedule("asha", 1, 3, 3),
    )
    with ray_here({"RAY_worker_register_timeout_seconds": "300"}, cpus=workers):
        ray_tune_adapter.run_queue(
            queue,
            assets=None,  # type: ignore[arg-type]
            run_uri=tempfile.mkdtemp(dir=tmp_path),
            validation={},
            resources={"cpu": 1},
            concurrency=workers,
            log=lambda key, text: pytest.fail(f"{key}: {text}"),
            file_written=lambda key, name: None,
            splits_opened=lambda names: None,
            asked_to_stop=lambda: False,
        )
    for store in (
        TrialStore(
            open_storage(f"sqlite:///{tmp_path / 'study.db'}"), s.lane, s.lane, s.role, SPACE, [OBJECTIVE], 5
        )
        for s in stores
    ):
        records = store.records()
        assert [r.number for r in records] == list(range(trials // 2))
        assert len({tuple(sorted(r.params.items())) for r in records}) == len(records)
        assert {r.state for r in records} == {State.COMPLETE, State.PRUNED}
        for record in records:
            assert record.attempt == 1
            assert list(record.history) == list(range(1, record.epochs + 1))
            for epoch in record.history.values():
                assert math.isclose(epoch.metrics["val/score"], score(dict(record.params)))
                assert epoch.checkpoint == f"of {record.key}"
        complete = [r for r in records if r.state is State.COMPLETE]
        assert all(r.epochs == 3 for r in complete)
        # a trial stopped at the first epoch was not among the best third of those that were there
        for record in records:
            place = record.history[1].place
            assert place is not None
            went_on = place[0] <= math.ceil(place[1] / 3)
            assert went_on == (record.epochs > 1)
    assert os.path.getsize(tmp_path / "study.db") < 20_000_000
