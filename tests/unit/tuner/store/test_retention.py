"""Which checkpoints stay, and that a file which cannot be deleted is spoken of."""

from pathlib import Path

import pytest

from tests.unit.runs import StoredRun
from trainables.base.storage import Folder
from trainables.training.checkpoint_files import retain
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole
from tuner.store.retention import Retention


def record(key: str, epochs: int, state: State = State.COMPLETE) -> TrialRecord:
    lane, _, number = key.rpartition("-")
    history = {
        epoch: Epoch({}, Decision.CONTINUE, f"checkpoints/{key}/epoch-{epoch:04d}.pt")
        for epoch in range(1, epochs + 1)
    }
    return TrialRecord(lane or "search", int(number), TrialRole.SEARCH, state, {}, {}, 0, history)


def store(tmp_path: Path, **files: list[str]) -> Folder:
    folder = Folder(tmp_path)
    for key, names in files.items():
        for name in names:
            folder.write(f"checkpoints/{key.replace('_', '-').lstrip('t')}/{name}", b"weights")
    return folder


TWO = ["epoch-0002.pt", "epoch-0003.pt"]


def test_a_running_trial_keeps_the_latest_and_the_one_before(tmp_path: Path) -> None:
    files = store(tmp_path, t0001=["epoch-0001.pt", *TWO])
    assert retain(files, "0001", 3) == []
    assert files.names("checkpoints/0001") == TWO


@pytest.mark.parametrize("state", [State.COMPLETE, State.PRUNED, State.FAIL])
def test_an_ended_trial_keeps_its_last_recorded_one(tmp_path: Path, state: State) -> None:
    """Epoch 3 was written and not recorded (its loss was not finite); a worker was killed while it wrote epoch 4."""
    files = store(tmp_path, t0001=[*TWO, ".epoch-0004.pt.77.tmp"])
    Retention(files).ended(record("0001", 2, state))
    assert files.names("checkpoints/0001") == ["epoch-0002.pt"]


def test_a_trial_that_never_recorded_an_epoch_keeps_none(tmp_path: Path) -> None:
    files = store(tmp_path, t0001=["epoch-0001.pt"])
    Retention(files).ended(record("0001", 0, State.FAIL))
    assert files.names("checkpoints/0001") == []


def test_a_sweep_does_it_for_trials_whose_end_nobody_heard_of(tmp_path: Path) -> None:
    keys = {"t0000": TWO, "t0001": TWO, "confirm_0000": TWO, "confirm_0001": TWO, "confirm_0002": TWO}
    files = store(tmp_path, **keys)
    records = [
        record("0000", 3),
        record("0001", 3, State.RUNNING),
        *(record(f"confirm-000{i}", 3) for i in range(3)),
    ]
    keeper = Retention(files)
    # of a former winner: 0 was evaluated, 1 was not yet and may be wanted again
    keeper.sweep(records, superseded=["confirm-0000", "confirm-0001"], evaluated=["confirm-0000"])
    assert keeper.problems == []
    assert files.walk("checkpoints") == [
        "checkpoints/0000/epoch-0003.pt",
        "checkpoints/0001/epoch-0002.pt",
        "checkpoints/0001/epoch-0003.pt",
        "checkpoints/confirm-0001/epoch-0003.pt",
        "checkpoints/confirm-0002/epoch-0003.pt",
    ]


def test_a_delete_that_fails_or_does_nothing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = store(tmp_path, t0000=TWO, t0001=TWO)
    original = Folder.delete

    def delete(self: Folder, name: str) -> None:
        if "0000" in name:
            raise PermissionError(13, "Permission denied")
        # the store says yes and keeps the file

    monkeypatch.setattr(Folder, "delete", delete)
    assert retain(files, "0000", 4) == ["checkpoints/0000/epoch-0002.pt is still there: Permission denied"]
    keeper = Retention(files)
    keeper.ended(record("0000", 3))
    keeper.ended(record("0001", 3))
    assert keeper.problems == [
        "trial 0000: checkpoints/0000/epoch-0002.pt is still there: Permission denied",
        "trial 0001: checkpoints/0001/epoch-0002.pt is still there",
    ]
    monkeypatch.setattr(Folder, "delete", original)
    keeper.sweep([record("0000", 3), record("0001", 3)])
    assert keeper.problems == []


def test_nothing_is_deleted_where_the_one_to_keep_is_missing(tmp_path: Path) -> None:
    files = store(tmp_path, t0001=TWO)
    keeper = Retention(files)
    keeper.ended(record("0001", 9))
    assert files.names("checkpoints/0001") == TWO
    assert "checkpoints/0001/epoch-0009.pt is missing" in keeper.problems[0]


def test_of_a_methods_samples_the_newest_stays(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    for key in ("0000", "0001"):
        for epoch in (1, 2, 10):
            files.write(f"files/{key}/samples-{epoch:04d}.png", b"png")
    keeper = Retention(files)
    keeper.samples([record("0000", 10), record("0001", 10, State.RUNNING), record("0002", 1)])
    assert files.names("files/0000") == ["samples-0010.png"]
    assert len(files.names("files/0001")) == 3
    assert keeper.problems == []


def test_a_stored_run_ends_with_one_checkpoint_for_each_trial(tmp_path: Path) -> None:
    run = StoredRun(tmp_path)
    queue = run.queue()
    queue.listeners = (Retention(run.folder.files),)
    for values in ([0.5] * 9, [0.4], [0.6] * 9):
        run.trial(queue, values)
    assert run.folder.files.walk("checkpoints") == [
        "checkpoints/0000/epoch-0009.pt",
        "checkpoints/0001/epoch-0001.pt",
        "checkpoints/0002/epoch-0009.pt",
    ]
