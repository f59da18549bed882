"""Where Ray's session folder is made, who may enter it, and when it goes."""

import fcntl
import os
import tempfile
import time
from pathlib import Path

import pytest

from tuner.base.errors import UsageError
from tuner.execution import ray_session


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_the_folder_is_private_and_its_sockets_have_short_paths(base: Path) -> None:
    folder = ray_session.make_session_folder()
    assert folder.parent.parent == base
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert len(str(folder)) + len("/session_2026-11-29_10-16-20_147812_1234567/sockets/plasma_store") <= 107


def test_a_long_temporary_folder_of_the_system_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert ray_session.base_folder() == Path("/tmp")


@pytest.mark.parametrize(
    ("name", "bits", "says"),
    [
        ("x" * 60, 0o700, "has over .* bytes, too many for the path of a socket"),
        ("open", 0o777, "is not safe: other users may rename what is in .*/open"),
        ("", 0, "/missing is not a folder"),
    ],
)
def test_a_folder_of_the_users_choice_that_does_not_do_is_refused(
    name: str, bits: int, says: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = base / (name or "missing")
    if name:
        chosen.mkdir()
        chosen.chmod(bits)
    monkeypatch.setenv("RAY_TMPDIR", str(chosen))
    with pytest.raises(UsageError, match=f"RAY_TMPDIR=.*{says}; name a short folder of your own") as caught:
        ray_session.base_folder()
    assert "\n" not in str(caught.value)


def test_the_folders_of_killed_launches_go_after_an_hour(base: Path) -> None:
    """Counted from the last line in Ray's logs: a launch of many hours may have been killed just now."""
    folders = {name: base / f"rtune-{name}" for name in ("old", "new", "running", "just-killed", "other")}
    hour_ago = time.time() - 3601
    for name, folder in folders.items():
        log = folder / "r" / "session_1" / "logs" / "raylet.out"
        log.parent.mkdir(parents=True)
        log.touch()
        (folder / "lock").touch()
        if name in ("old", "running", "other"):
            os.utime(log, (hour_ago, hour_ago))
    (folders["other"] / "lock").unlink()  # not made by a launch
    for name in ("old", "running", "just-killed", "other"):
        os.utime(folders[name], (hour_ago, hour_ago))
    with open(folders["running"] / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ray_session.make_session_folder()
    assert not folders["old"].exists()
    assert all(folders[name].exists() for name in ("new", "running", "just-killed", "other"))
