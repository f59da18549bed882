"""The user's cache is for this user alone, whatever the umask; other folders are as the umask says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.base.cache import default_cache_dir, locked, make_cache_folder
from trainables.base.storage import atomic_write


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is forbidden by the umask, and the caches are in a folder that everybody may write to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = os.umask(0)
    (tmp_path / "home").mkdir()
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_users_cache_is_private() -> None:
    own = default_cache_dir()
    with locked(own / "evaluations" / ".key.lock"), atomic_write(own / "evaluations" / "key.json"):
        pass
    make_cache_folder(own / "glyphs" / "part")
    found = {path.relative_to(own.parent).as_posix(): mode(path) for path in own.parent.rglob("*")}
    assert found == {
        "robust-tuner": 0o700,
        "robust-tuner/evaluations": 0o700,
        "robust-tuner/evaluations/.key.lock": 0o600,
        "robust-tuner/evaluations/key.json": 0o600,
        "robust-tuner/glyphs": 0o700,
        "robust-tuner/glyphs/part": 0o700,
    }


def test_a_cache_that_is_there_and_folders_elsewhere_keep_their_rights(tmp_path: Path) -> None:
    default_cache_dir().mkdir(mode=0o755)
    make_cache_folder(default_cache_dir() / "glyphs")
    assert (mode(default_cache_dir()), mode(default_cache_dir() / "glyphs")) == (0o755, 0o755)
    with locked(tmp_path / "data" / ".digits.lock"):
        pass
    assert mode(tmp_path / "data") == mode(tmp_path)
