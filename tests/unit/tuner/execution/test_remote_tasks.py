"""The Ray tasks of a study besides its trials, called in this process."""

import shutil
from pathlib import Path

import pytest

from tests.unit import disk_formats
from tuner.execution.remote_tasks import load_tests

pytestmark = pytest.mark.filterwarnings("ignore::trainables.data.loading.from_files.MissingDataWarning")


def test_copies_of_training_images_in_own_test_sets_are_named(tmp_path: Path) -> None:
    """One training picture lies in the test folder and one among the near OOD pictures."""
    disk_formats.imagefolder(tmp_path)
    _, before = load_tests("imagefolder", str(tmp_path), ("clean",), "")
    assert not [note for note in before if "stand in" in note]
    train = sorted((tmp_path / "train" / "class 0").iterdir())
    shutil.copy(train[0], tmp_path / "test" / "class 1" / "copied.png")
    shutil.copy(train[1], tmp_path / "ood" / "near" / "paintings" / "copied.png")
    _, notes = load_tests("imagefolder", str(tmp_path), ("clean",), "")
    copies = [note for note in notes if "stand in" in note]
    assert [note.partition(" too")[0] for note in copies] == [
        "1 of 13 images of test_id stand in train",
        "1 of 6 images of test_ood_near/paintings stand in train",
    ]


def test_published_sets_are_not_searched_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.execution.remote_tasks.overlaps", lambda sets: pytest.fail("was searched"))
    assert load_tests("digits", "", ("clean",), "")[1] == ()
