"""`launch.py --check-data`: what it counts, what it says is wrong, and the sheet of images that it writes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit import disk_formats
from trainables.data.loading.data_sheet import COLUMNS
from trainables.data.types.lazy_images import fit
from trainables.data.types.read_picture import read_picture
from tuner import cli


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    disk_formats.imagefolder(tmp_path / "data")
    return tmp_path / "data"


def launch(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(["--check-data", *words])
    out, err = capsys.readouterr()
    return code, out, err


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    _, out, err = launch(capsys, *words, "--json")
    assert err == ""
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_the_answer_counts_classes_and_sets(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk_formats.picture(pictures / "train" / "class 1" / "large.png", 300, 200, mode="L")
    code, out, err = launch(capsys, "data")
    assert (code, err) == (0, "")
    assert out.splitlines()[:12] == [
        "data      imagefolder in data",
        "images    as saved 24 x 16 to 300 x 200 (width x height), 27 RGB, 1 L of 28 looked at; as the network sees "
        "them 3 x 64 x 64",
        "",
        "class         train  validation        test",
        "class 0           9           1           4",
        "class 1          10           1           4",
        "class 2           9           1           4",
        "all              28           3          12",
        "",
        "near OOD        paintings (5)",
        "far OOD         gaussian (500), uniform (500), maps (6)",
        "54 of 54 images looked into",
    ]
    assert out.splitlines()[-1] == "nothing is wrong with these data"
    assert not (tmp_path / "runs").exists()


def test_the_same_as_json(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = found(capsys, "--dataset", "imagefolder", "--data-dir", "data")
    assert answer["classes"] == ["class 0", "class 1", "class 2"]
    assert answer["images"]["train"] == {"class 0": 9, "class 1": 9, "class 2": 9}
    assert answer["ood"] == {"near": {"paintings": 5}, "far": {"gaussian": 500, "uniform": 500, "maps": 6}}
    assert answer["problems"] == []
    assert len(answer["notes"]) == 4
    assert answer["contact_sheet"] == str(tmp_path / "contact-sheet.png")
    code, out, _ = launch(capsys, "data", "--json", "found.json")
    assert code == 0
    assert out.startswith("data      imagefolder in data\n")
    assert json.loads((tmp_path / "found.json").read_text()) == answer | {"data_dir": "data"}


def test_every_problem_is_listed_and_the_status_is_that_of_bad_input(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "train" / "class 0" / "torn.jpg").write_bytes(b"")
    shutil.copy(pictures / "train/class 0/class 0_1.png", pictures / "test/class 1/copied.png")
    code, out, err = launch(capsys, "data")
    assert (code, err) == (2, "")
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 2
    assert problems[0].startswith("problem: 1 of 13 images of test are in train too (")
    assert "torn.jpg is empty" in problems[1]
    assert "nothing is wrong" not in out


def test_what_cannot_be_read_at_all_is_a_problem(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk_formats.picture(pictures / "test" / "zebra" / "a.png")
    code, out, err = launch(capsys, "data")
    assert (code, err) == (2, "")
    assert out.splitlines()[0] == "data      imagefolder in data"
    assert out.splitlines()[1].startswith(
        "problem: data/test has other class folders than data/train: 1 more (zebra)"
    )


def test_a_picture_that_is_too_large_is_a_problem(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    disk_formats.picture(pictures / "train" / "class 1" / "large.png", 2001, 1000, mode="L")
    code, out, _ = launch(capsys, "data")
    assert code == 2
    assert out.splitlines()[-1] == (
        "problem: data/train/class 1/large.png has more than 2 million pixels; save it smaller"
    )


def test_in_a_folder_that_cannot_be_written_to_there_is_no_sheet(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures.parent / "contact-sheet.png").mkdir()
    code, out, err = launch(capsys, "data")
    assert (code, err) == (0, "")
    assert f"note: {pictures.parent}/contact-sheet.png cannot be written: Is a directory" in out.splitlines()
    assert "sheet of images" not in out
    assert found(capsys, "data")["contact_sheet"] is None


def test_what_the_users_code_prints_is_no_part_of_the_json(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures.parent / "loud.py").write_text(
        "import numpy as np\nprint('imported')\n"
        "images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)\n"
        "def make():\n    print('called')\n"
        "    return {'train': (images, np.arange(9) % 3), 'test': (255 - images, np.arange(9) % 3)}\n"
    )
    code, out, err = launch(capsys, "./loud.py:make", "--json")
    assert code == 0, out
    assert json.loads(out)["shape"] == [1, 8, 8]
    assert "imported" in err
    assert "called" in err


def test_pictures_that_look_alike_are_a_note(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(pictures / "train/class 0/class 0_1.png") as picture:
        picture.resize((120, 80)).save(pictures / "test/class 1/again.webp", quality=90)
    notes = found(capsys, "data")["notes"]
    assert any("images of test look like images of train too" in note for note in notes)


def test_the_sheet_shows_what_the_network_sees(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each class and OOD set; a tile of one class is one of its pictures, scaled from 64 to 96 pixels."""
    launch(capsys, "data")
    with Image.open(tmp_path / "contact-sheet.png") as opened:
        sheet = np.asarray(opened.convert("RGB"))
    rows = 3 + 1 + 3  # classes, paintings, maps and two of noise
    assert sheet.shape == (rows * 100 + 4, 180 + COLUMNS * 100 + 4, 3)
    tile = sheet[4:100, 180:276]
    pictured = [fit(read_picture(path), (3, 64, 64)) for path in (pictures / "train" / "class 0").iterdir()]
    shown = [
        np.asarray(Image.fromarray(p.transpose(1, 2, 0)).resize((96, 96), Image.Resampling.NEAREST))
        for p in pictured
    ]
    assert sum(np.array_equal(tile, each) for each in shown) == 1


def test_arrays_and_built_in_sets_are_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = disk_formats.pixels(20, 8, 8), np.arange(20) % 2
    np.savez(
        "mine.npz", train_images=images, train_labels=labels, test_images=255 - images, test_labels=labels
    )
    answer = found(capsys, "mine.npz")
    assert answer["dataset"] == f"npz:{tmp_path}/mine.npz"
    assert answer["as_saved"] == {
        "looked_at": 18,
        "smallest": [8, 8],
        "largest": [8, 8],
        "shorter_side": 8,
        "kinds": {"uint8": 18},
    }
    assert found(capsys, "digits")["images"]["test"]["3"] == 51


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name the data: --check-data DIR, or --check-data --dataset NAME and its --data-dir"),
        (
            ["data", "--dataset", "digits"],
            "--check-data data and --dataset digits both name the data; leave one out",
        ),
        (["/nowhere"], "unknown dataset '/nowhere'; known: "),
        (["--dataset", "cifar10"], "dataset cifar10 needs --data-dir: put data_batch_1 to "),
        (["--dataset", "cifar10", "--data-dir", "/nowhere"], "--data-dir /nowhere is not a folder"),
        (
            ["data", "--trials", "3"],
            "--trials does not go with --check-data; it goes with --study or --resume",
        ),
    ],
)
def test_what_cannot_be_checked_is_told(
    words: list[str], says: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = launch(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"launch.py: {says}")
