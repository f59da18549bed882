"""A stored run as Python values: the numbers are those of the database, of trials.csv and of the verdict."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

import robust_tuner as rt
import trainables.training.checkpoints  # noqa: F401  torch is imported here, not in a test
from tests.unit.runs import CLEAN, METRIC, StoredRun
from tuner.analysis.verdict import Level
from tuner.commands.run_state import read_run
from tuner.commands.stored_result import result_of
from tuner.report.csv_tables import trials_csv


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three trials, the last one below the floor; two are scored on the tests."""
    folder = tmp_path_factory.mktemp("runs")
    stored = StoredRun(folder, trials=3)
    queue = stored.queue()
    for value, clean in ((0.7, 0.95), (0.8, 0.96), (0.9, 0.5)):
        stored.trial(queue, [value] * 9, clean=clean)
    for key in ("0000", "0001"):
        stored.lanes["search"].note(f"evaluation/{key}", {"test/auroc/near": 0.9 + int(key) / 100})
    return folder


@pytest.fixture
def run(root: Path) -> rt.Run:
    return rt.load_run(root / "one")


def test_what_it_is(run: rt.Run, root: Path) -> None:
    assert (run.name, run.path, run.storage) == ("one", str(root / "one"), str(root))
    assert (run.study, run.dataset, run.state, run.reason) == ("aoe_sigma", "digits-open", "interrupted", "")
    assert str(run) == "run one: aoe_sigma on digits-open, interrupted, 3 of 6 trials"
    assert repr(run) == f"<{run}>"
    assert (run.report, run.arms) == (None, {})
    assert rt.load_run("one", storage=root).path == run.path
    assert run.refresh().path == run.path


def test_the_trials_are_those_of_the_csv_file(run: rt.Run, root: Path) -> None:
    frame = run.trials()
    rows = list(csv.DictReader(trials_csv(result_of(read_run("one", str(root)))).splitlines()))
    assert list(frame.columns) == list(rows[0])
    assert frame[METRIC].tolist() == [0.7, 0.8, 0.9] == [float(row[METRIC]) for row in rows]
    assert frame["feasible"].tolist() == [True, True, False]
    assert frame["test/auroc/near"].tolist()[:2] == [0.9, 0.91]
    assert frame["test/auroc/near"].isna().tolist() == [False, False, True]
    assert run.trials(arms=True).empty
    assert "lane" in run.trials(arms=True).columns


def test_every_epoch(run: rt.Run) -> None:
    history = run.history()
    assert len(history) == 3 * 9
    assert history[history.trial == "0001"]["epoch"].tolist() == list(range(1, 10))
    assert history[history.trial == "0001"][CLEAN].unique().tolist() == [0.96]


def test_the_winner_meets_the_floor(run: rt.Run) -> None:
    best = run.best
    assert best is not None
    assert (best.key, best.number, best.state, best.epochs) == ("0001", 1, "COMPLETE", 9)
    assert (best.metrics[METRIC], best.tests) == (0.8, {"test/auroc/near": 0.91})
    assert best.params["lr"] == best.configuration["lr"] == run.trials()["lr"][1]
    assert best.checkpoint == "checkpoints/0001/epoch-0009.pt"
    assert run.trial(2).key == run.trial("0002").key == "0002"
    assert str(best).startswith("trial 0001: COMPLETE after 9 epochs (attack.epsilon=")


def test_the_answer(run: rt.Run) -> None:
    assert run.answer.level is Level.OPEN
    assert str(run.answer).startswith(
        "The confirm stage is not over, so there is no interval and no comparison yet"
    )


def test_a_run_without_trials(tmp_path: Path) -> None:
    StoredRun(tmp_path)
    run = rt.load_run(tmp_path / "one")
    assert (run.best, run.arms, len(run.trials()), len(run.history())) == (None, {}, 0, 0)
    assert "There is no winner" in str(run.answer)
    with pytest.raises(rt.UsageError, match=r"^run one has no winner yet; name a trial$"):
        run.model()


def test_what_is_not_there_is_said_in_one_line(run: rt.Run, root: Path) -> None:
    for call, says in (
        (lambda: rt.load_run(root / "two"), "run 'two' does not exist"),
        (lambda: rt.load_run("two", storage=root), "run 'two' does not exist"),
        (lambda: rt.load_run(root / "one", storage=root), "is a folder; give its name alone"),
        (lambda: run.trial(7), "run one: unknown trial '7'; known: 0000, 0001, 0002"),
        (lambda: run.model("oe-0001"), "run one: unknown trial 'oe-0001'"),
        (lambda: run.model(), "checkpoints/0001/epoch-0009.pt"),  # which holds no checkpoint here
    ):
        with pytest.raises(rt.UsageError) as told:
            call()
        assert says in str(told.value)
        assert "\n" not in str(told.value)


def test_a_checkpoint_that_is_gone(tmp_path: Path) -> None:
    stored = StoredRun(tmp_path, trials=1)
    stored.trial(stored.queue(), [0.7] * 9)
    (tmp_path / "one" / "checkpoints" / "0000" / "epoch-0009.pt").unlink()
    with pytest.raises(rt.UsageError, match=r"^trial 0000 of run 'one': .* cannot be read: No such file"):
        rt.load_run(tmp_path / "one").model()


def test_importing_is_light() -> None:
    heavy = ("torch", "ray", "optuna", "mlflow", "matplotlib", "scipy", "numpy", "pandas")
    code = (
        f"import sys, robust_tuner; print([m for m in {heavy} if m in sys.modules], robust_tuner.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
