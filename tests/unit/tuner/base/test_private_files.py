"""Secrets in files: their mode from the first moment on, whose they are, and folders in which others may swap them."""

import os
import threading
from pathlib import Path

import pytest

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.private_files import keep_private, make_private, others_may_swap, write_private


@pytest.fixture(autouse=True)
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("write", [write_private, keep_private])
def test_a_secret_and_its_folder_are_private_whatever_the_umask(write, tmp_path: Path) -> None:
    write(tmp_path / "new" / "token", "secret")
    assert (tmp_path / "new" / "token").read_text() == "secret"
    assert (mode(tmp_path / "new"), mode(tmp_path / "new" / "token")) == (0o700, 0o600)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_secret_that_is_there_is_kept_and_an_empty_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    keep_private(tmp_path / "token", "second")
    assert ((tmp_path / "token").read_text(), mode(tmp_path / "token")) == ("first", 0o600)
    (tmp_path / "token").write_text("")
    keep_private(tmp_path / "token", "second")
    assert (tmp_path / "token").read_text() == "second"


def test_of_processes_that_write_at_once_one_wins(tmp_path: Path) -> None:
    read: list[str] = []

    def start(number: int) -> None:
        keep_private(tmp_path / "token", f"token {number}")
        read.append((tmp_path / "token").read_text())

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 8
    assert len(set(read)) == 1


def test_a_file_system_without_links_gets_the_secret_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError("links are not supported")

    monkeypatch.setattr(os, "link", refuse)
    keep_private(tmp_path / "token", "secret")
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    assert ((tmp_path / "token").read_text(), mode(tmp_path / "token")) == ("secret", 0o600)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("known to him")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(PermissionError, match=f"token belongs to user {user}, not to user {user + 1}"):
        make_private(tmp_path / "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UsageError, match=r"Ray's token: .* name one of your own in RAY_AUTH_TOKEN_PATH"):
        environment.protect_ray_token()


@pytest.mark.parametrize("make", [True, False])
def test_rays_token_is_repaired(make: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    token = tmp_path / ".ray" / "auth_token"
    assert environment.protect_ray_token(make=make) is make
    token.parent.mkdir(exist_ok=True)
    token.write_text("as Ray leaves it")
    token.chmod(0o644)
    assert environment.protect_ray_token(make=make)
    assert (token.read_text(), mode(token)) == ("as Ray leaves it", 0o600)


@pytest.mark.parametrize(
    ("bits", "safe"), [(0o700, True), (0o755, True), (0o777, False), (0o775, False), (0o1777, True)]
)
def test_folders_in_which_others_may_swap_files(bits: int, safe: bool, tmp_path: Path) -> None:
    (tmp_path / "open" / "below").mkdir(parents=True)
    (tmp_path / "open" / "below").chmod(0o700)
    (tmp_path / "open").chmod(bits)
    assert others_may_swap(tmp_path / "open" / "below") == (None if safe else tmp_path / "open")
