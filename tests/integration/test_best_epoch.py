"""A study whose trials are judged by their best epoch: what is chosen, kept, evaluated and shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launcher, launcher_in
from tests.integration.test_main_job import client, rows
from tuner.planning.plan import from_dict
from tuner.store.trial_reader import read_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OBJECTIVE, CLEAN = "val/accuracy/robust_0.15", "test/accuracy/clean"
# so large a learning rate that the curve falls as often as it rises
STUDY = ("--study", "adversarial_baselines", "--run-name", "one", "--trials", "2", "--max-epochs", "8")
SETTINGS = (
    "lr=0.1",
    "weight_decay=0.00001",
    "attack.steps=2",
    "attack.epsilon=0.1",
    "attack.widen=choice(1.0, 2.0)",
)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """A folder whose studies measure all images, as --evaluate does."""
    yield from launcher_in(tmp_path, few_images=False)


def records(launcher: Launcher) -> list[Any]:
    folder = launcher.folder / "runs" / "one"
    plan = from_dict(json.loads((folder / "plan.json").read_text())["plan"])
    assert plan.epoch == "best"
    return read_trials(f"sqlite:///{folder}/study.db", plan)[0]


def test_the_best_epoch_is_kept_evaluated_and_shown_beside_the_last(launcher: Launcher) -> None:
    words = [word for value in SETTINGS for word in ("--set", value)]
    more = ("--confirm-seeds", "2", "--arms", "none", "--scheduler", "none", "--floor", "none")
    done = launcher.run(*STUDY, *words, *more, timeout=500)
    assert done.code == 0, done.out + done.err

    found = records(launcher)
    assert len(found) == 4
    for record in found:
        curve = {epoch: entry.metrics.get(OBJECTIVE) for epoch, entry in record.history.items()}
        assert [epoch for epoch, value in curve.items() if value is not None] == [5, 6, 7, 8]
        best = max((value, epoch) for epoch, value in curve.items() if value is not None)[1]
        assert record.judged_epoch == best
        folder = launcher.folder / "runs" / "one" / "checkpoints" / record.key
        kept = {best, 8} if record.lane == "confirm" else {best}
        assert {int(path.stem.removeprefix("epoch-")) for path in folder.iterdir()} == kept
    assert any(record.judged_epoch < 8 for record in found), "choose settings whose curve falls"

    search = [record for record in found if record.lane == "search"]
    for record, row in zip(search, rows(launcher, "one"), strict=True):
        assert int(row["judged_epoch"]) == record.judged_epoch
        assert float(row[OBJECTIVE]) == record.history[record.judged_epoch].metrics[OBJECTIVE]
        # what the study measured is what the kept file is worth
        done = launcher.run(
            "--evaluate", f"runs/one/{record.checkpoint}", "--protocol", "quick", "--json", "again.json"
        )
        assert done.code == 0, done.err
        again = json.loads((launcher.folder / "again.json").read_text())
        assert again["metrics"][CLEAN] == float(row[CLEAN])

    report = (launcher.folder / "runs" / "one" / "report.md").read_text()
    assert "Best epoch and last, of 8: " in report
    store = client(launcher)
    experiment = store.get_experiment_by_name("adversarial_baselines").experiment_id
    for record in search:
        (run,) = store.search_runs([experiment], f"tags.key = '{record.key}'")
        assert run.data.metrics[f"judged/{OBJECTIVE}"] == pytest.approx(record.judged[OBJECTIVE])
        assert run.data.metrics[OBJECTIVE] == pytest.approx(record.history[8].metrics[OBJECTIVE])
