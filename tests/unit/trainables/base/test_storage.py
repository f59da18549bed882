"""Files written whole or not at all."""

from pathlib import Path

import pytest

from trainables.base.errors import InputError
from trainables.base.storage import Folder, atomic_write


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


def test_an_atomic_write_replaces_the_file_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    with atomic_write(path) as file:
        file.write(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert (
            len(list(path.parent.iterdir())) == 2
        )  # the temporary file lies beside it: a rename never copies
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["x"]


def test_an_atomic_write_whose_block_raises_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"1" * 9)
        second.write(b"2" * 5)
    assert path.read_bytes() == b"1" * 9  # the inner one was replaced by the outer one


def test_only_a_durable_write_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    Folder(tmp_path).write("x", b"1", durable=False)
    assert synced == []
    Folder(tmp_path).write("x", b"1")
    assert len(synced) == 1


def test_files_are_replaced_in_one_place() -> None:
    """No module but `trainables.base.storage` flushes to the disk or makes temporary names; the download moves."""
    root = Path(__file__).resolve().parents[4]
    names = ("os.replace", "os.rename", "os.fsync", "mkstemp", "NamedTemporaryFile", '.tmp"')
    found = {
        path.relative_to(root).as_posix()
        for folder in ("tuner", "trainables")
        for path in (root / folder).rglob("*.py")
        if any(name in path.read_text() for name in names)
    }
    assert found == {"trainables/base/storage.py", "trainables/data/download.py"}
