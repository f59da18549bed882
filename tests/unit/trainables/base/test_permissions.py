"""Modes of files and folders, with an umask that forbids nothing and one that forbids all to others."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.base.permissions import created, make_folder, make_private_folder
from trainables.base.storage import Folder


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_written_in_a_private_folder_is_private(umask: int, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    make_private_folder(run)
    make_folder(run / "logs" / "more")
    created(run / "console.log")
    Folder(run).write("checkpoints/0001/epoch-0001.pt", b"1")
    assert mode(run) == 0o700
    found = {path.relative_to(run).as_posix(): mode(path) for path in run.rglob("*")}
    assert {m for name, m in found.items() if (run / name).is_dir()} == {0o700}
    assert {m for name, m in found.items() if (run / name).is_file()} == {0o600}
    assert len(found) == 6


def test_elsewhere_the_umask_and_the_folder_decide_together(umask: int, tmp_path: Path) -> None:
    for bits in (0o755, 0o777, 0o750):
        folder = tmp_path / oct(bits)
        folder.mkdir()
        folder.chmod(bits)
        Folder(folder).write("cache/x", b"1")
        assert mode(folder / "cache") == bits & ~umask
        assert mode(folder / "cache" / "x") == bits & 0o666 & ~umask
        assert mode(created(folder / "mlflow.db", private=True)) == 0o600


def test_a_folder_that_a_group_shares_stays_shared(umask: int, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    root.chmod(0o2770)
    make_private_folder(root / "one")
    assert mode(root / "one") == 0o777 & ~umask
    assert mode(created(root / "one" / "study.db", private=True)) == 0o666 & ~umask


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(mode=0o755)
    make_private_folder(tmp_path / "one")
    (tmp_path / "one" / "log").touch(mode=0o640)
    created(tmp_path / "one" / "log", private=True)
    assert (mode(tmp_path / "one"), mode(tmp_path / "one" / "log")) == (0o755, 0o640)
