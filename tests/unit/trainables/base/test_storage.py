"""Files written whole or not at all."""

from pathlib import Path

import pytest

from trainables.base.errors import InputError
from trainables.base.storage import Folder


def test_round_trip_and_listing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a/b/x.bin", b"1")
    folder.write("a/b/x.bin", b"22")
    folder.write("a/b/y.bin", b"3")
    assert folder.read("a/b/x.bin") == b"22"
    assert folder.names("a/b") == ["x.bin", "y.bin"]
    folder.delete("a/b/x.bin")
    folder.delete("a/b/x.bin")
    assert folder.names("a/b") == ["y.bin"]
    assert folder.names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        folder.read("a/b/x.bin")


def test_folders_and_everything_below(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name in ("runs/b/plan.json", "runs/a/x/y.pt", "runs/a/z.pt", "runs/file"):
        folder.write(name, b"1", durable=False)
    assert folder.folders("runs") == ["a", "b"]
    assert folder.folders() == ["runs"]
    assert folder.folders("nowhere") == []
    assert folder.walk("runs/a") == ["runs/a/x/y.pt", "runs/a/z.pt"]
    assert folder.walk("nowhere") == []


def test_an_object_store_lists_the_same(tmp_path: Path) -> None:
    """pyarrow's own view of a local folder stands for an object store."""
    local, remote = Folder(tmp_path), Folder(f"file://{tmp_path}")
    assert not remote.is_local
    for name in ("runs/a/x/y.pt", "runs/a/z.pt", "runs/file"):
        local.write(name, b"1")
    for folder in ("", "runs", "runs/a", "nowhere"):
        assert remote.names(folder) == local.names(folder)
        assert remote.folders(folder) == local.folders(folder)
        assert remote.walk(folder) == local.walk(folder)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.write("x", b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.write("x", b"new")
    assert folder.read("x") == b"old"
    assert folder.names("") == ["x"]


def test_object_store_scheme(tmp_path: Path) -> None:
    """pyarrow's own file:// stands in for an object store here: the same code path."""
    folder = Folder(f"file://{tmp_path}/root")
    assert not folder.is_local
    (tmp_path / "root").mkdir()
    folder.write("x.bin", b"1")
    assert folder.read("x.bin") == b"1"
    assert folder.names("") == ["x.bin"]
    folder.delete("x.bin")
    folder.delete("x.bin")
    with pytest.raises(FileNotFoundError):
        folder.read("x.bin")
    with pytest.raises(InputError, match="not a local folder"):
        folder.path("x")


def test_unknown_scheme_is_one_line() -> None:
    with pytest.raises(InputError, match="cannot open storage nope://x"):
        Folder("nope://x")
