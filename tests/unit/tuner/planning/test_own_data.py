"""A user's own data in a plan: where they are, the code that gives them, and a resume with other code refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit import disk_formats
from trainables.base.errors import InputError
from trainables.base.user_code import APPROVED
from tuner.base.errors import UsageError
from tuner.console.preview import plan_text
from tuner.planning.amend import amend
from tuner.planning.command_line import parse
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve

SOURCE = """
import numpy as np
import torch

def make():
    images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
    images[:] = np.arange(40)[:, None, None]
    return {"train": (images, labels), "test": (255 - images, labels), "classes": ["dark", "light"]}
"""


def planned(dataset: str, *words: str) -> Plan:
    return resolve(parse(["--study", "adversarial_baselines", "--dataset", dataset, *words]), "run-1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of code and one of arrays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(APPROVED, "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "their_data.py").write_text(SOURCE)
    images, labels = disk_formats.pixels(40, 8, 8, 1), np.arange(40) % 2
    np.savez(
        "mine.npz", train_images=images, train_labels=labels, test_images=255 - images, test_labels=labels
    )
    return tmp_path


def test_a_plan_says_where_the_data_are_whatever_the_working_folder(folder: Path) -> None:
    assert planned("npz:mine.npz").dataset == f"npz:{folder}/mine.npz"
    assert planned("npz:mine.npz").code == {}
    plan = planned("./their_data.py:make")
    assert plan.dataset == f"{folder}/their_data.py:make"
    assert plan.lanes[0].fixed["dataset"] == plan.dataset
    text = plan_text(plan)
    assert f"data       {folder}/their_data.py:make: 2 ID classes, images 1 x 8 x 8, your own" in text
    assert "classes    dark, light" in text
    assert "far OOD    gaussian, uniform" in text


def test_the_code_of_a_data_set_belongs_to_the_run(folder: Path) -> None:
    stored = from_dict(to_dict(planned("./their_data.py:make")))
    assert list(stored.code) == [f"{folder}/their_data.py"]
    resumed = ["--resume", "run-1"]
    assert amend(stored, parse([*resumed, "--allow-changed-code"]), "").code == stored.code
    (folder / "their_data.py").write_text(SOURCE.replace("255 - images", "254 - images"))
    with pytest.raises(UsageError) as caught:
        amend(stored, parse(resumed), "")
    assert str(caught.value) == (
        f"{folder}/their_data.py has changed since run run-1 began, so its trials would not be comparable; restore it, "
        "or go on with it as it is: --allow-changed-code"
    )


def test_a_resume_may_name_the_data_as_it_did(folder: Path) -> None:
    stored = planned("npz:mine.npz")
    amend(stored, parse(["--resume", "run-1", "--dataset", "npz:./mine.npz"]), "")
    with pytest.raises(
        UsageError, match=r"^--dataset npz:.*/other\.npz differs from the run's npz:.*/mine\.npz; "
    ):
        amend(stored, parse(["--resume", "run-1", "--dataset", "npz:other.npz"]), "")


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("npz:gone.npz", "npz:{folder}/gone.npz: No such file or directory"),
        ("./gone.py:make", "dataset ./gone.py:make: {folder}/gone.py is not a file"),
        (
            "./their_data.py:mak",
            "dataset ./their_data.py:mak: ./their_data.py has no mak; did you mean make?",
        ),
        ("digit", "unknown dataset 'digit'; did you mean digits?"),
    ],
)
def test_data_that_are_not_there_are_told(dataset: str, says: str, folder: Path) -> None:
    with pytest.raises((UsageError, InputError)) as caught:
        planned(dataset)
    assert str(caught.value).startswith(says.format(folder=folder))


def test_a_resume_with_other_images_is_refused(folder: Path) -> None:
    """Trials that were trained on other images cannot be compared; a moved folder holds the same ones."""
    disk_formats.imagefolder(folder / "pics")
    words = ["--study", "aoe_sigma", "--dataset", "imagefolder", "--data-dir"]
    stored = from_dict(to_dict(resolve(parse([*words, "pics"]), "run-1")))
    assert {name: text.split()[0] for name, text in stored.data.items()} == {"train": "27", "validation": "3"}
    resumed = ["--resume", "run-1"]
    assert amend(stored, parse(resumed), "").data == stored.data
    (folder / "pics").rename(folder / "moved")
    moved = [*resumed, "--data-dir", "moved"]
    assert amend(stored, parse(moved), "").data == stored.data
    assert amend(stored, parse(resumed), "").data == stored.data  # gone: told by the checks before the start

    (folder / "moved" / "train" / "class 1" / "class 1_4.png").unlink()
    with pytest.raises(UsageError) as caught:
        amend(stored, parse(moved), "")
    assert str(caught.value) == (
        "the images of train have changed since run run-1 began (27 then, 27 now), so its trials would not be "
        "comparable; bring them back, start a new run, or go on all the same: --allow-changed-code"
    )  # of 29 images two are held out, of 30 three
    assert amend(stored, parse([*moved, "--allow-changed-code"]), "").data != stored.data


def test_arrays_that_changed_are_noticed(folder: Path) -> None:
    stored = planned("npz:mine.npz")
    amend(stored, parse(["--resume", "run-1"]), "")
    with np.load("mine.npz") as held:
        arrays = dict(held)
    np.savez("mine.npz", **{**arrays, "train_labels": 1 - arrays["train_labels"]})
    with pytest.raises(
        UsageError, match=r"^the images of train have changed since run run-1 began \(36 then, 36"
    ):
        amend(stored, parse(["--resume", "run-1"]), "")
