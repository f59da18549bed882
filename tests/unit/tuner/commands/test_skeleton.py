"""What `--new` writes: names that fit, nothing overwritten; tests/integration/test_own_code.py runs it."""

import ast
from pathlib import Path

import pytest

from tuner.base.errors import UsageError
from tuner.commands.skeleton import SKELETONS, write_skeleton
from tuner.planning.own_study import find_study


@pytest.mark.parametrize(
    ("folder", "study", "method"),
    [
        ("mixup", "mixup", "Mixup"),
        ("Label Smoothing-2", "label_smoothing_2", "LabelSmoothing2"),
        ("2024", "my_2024", "My2024"),
        ("aoe_sigma", "my_aoe_sigma", "MyAoeSigma"),
        ("...", "mine", "Mine"),
        ("Übung 2", "ubung_2", "Ubung2"),
        ("日本", "mine", "Mine"),
        ("x" * 200, "x" * 60, "X" + "x" * 59),
        ("study", "my_study", "MyStudy"),  # the file has a Study of its own
        ("f", "my_f", "MyF"),
        ("none", "my_none", "MyNone"),
    ],
)
def test_names_come_from_the_folder(folder: str, study: str, method: str, tmp_path: Path) -> None:
    text = write_skeleton("method", str(tmp_path / folder))
    file = tmp_path / folder / "method.py"
    found = find_study(str(file))
    assert (found.name, found.method) == (study, f"{file}:{method}")
    test = file.with_name(f"test_{study}_method.py")
    assert f"class Test{method}(MethodContract):" in test.read_text()
    assert str(file) in text.splitlines()[0]


@pytest.mark.parametrize("kind", SKELETONS)
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    write_skeleton(kind, str(tmp_path / "a"))
    first, test = SKELETONS[kind]
    for name in (first, test.replace("NAME", "a")):
        ast.parse((tmp_path / "a" / name).read_text())
    (tmp_path / "a" / first).write_text("mine")
    with pytest.raises(
        UsageError, match=rf"^--new {kind} .*/a: .*/{first} exists, and nothing is overwritten; name"
    ):
        write_skeleton(kind, str(tmp_path / "a"))
    assert (tmp_path / "a" / first).read_text() == "mine"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^--new study .*/file/x: Not a directory$"):
        write_skeleton("study", str(tmp_path / "file" / "x"))
    with pytest.raises(UsageError, match=r"^--new studdy: unknown skeleton 'studdy'; did you mean study\?"):
        write_skeleton("studdy", str(tmp_path))
