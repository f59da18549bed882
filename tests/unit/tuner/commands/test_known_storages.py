"""A plan.json that names a server: nobody connects to it, and no password goes there, before the user has named it."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.runs import StoredRun
from tuner.base.errors import UsageError
from tuner.cli import run as launch
from tuner.store import known_storages, trial_reader


class SilentServer:
    """A port that takes connections and never answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://me@127.0.0.1:{self.socket.getsockname()[1]}/studies"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.connections.append(self.socket.accept()[0])
            except OSError:
                return


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SilentServer]]:
    """Yield a root with a run of our own and two whose plan.json names a server, and that server."""
    root, server = tmp_path_factory.mktemp("runs"), SilentServer()
    StoredRun(root, "own")
    for name in ("theirs", "theirs-too"):
        (root / name).mkdir()
        shutil.copy(root / "own" / "plan.json", root / name)
        known_storages.RunFolder(str(root), name).update(
            run=name, folder=str(root / name), study_storage=server.url
        )
    yield root, server
    for each in (server.socket, *server.connections):
        each.close()


@pytest.fixture
def root(stored: tuple[Path, SilentServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PGPASSWORD", "mine")
    monkeypatch.delenv("TUNER_STUDY_STORAGE", raising=False)
    stored[1].connections.clear()
    return stored[0]


@pytest.fixture
def server(stored: tuple[Path, SilentServer]) -> SilentServer:
    return stored[1]


@pytest.mark.parametrize(
    "words",
    [
        *(["--status"], ["--status", "theirs"], ["--why", "theirs", "0"], ["--stop", "theirs"]),
        ["--study", "aoe_sigma", "--resume", "theirs", "--dry-run"],
    ],
)
def test_nobody_connects_to_a_server_that_only_a_plan_names(
    words: list[str], root: Path, server: SilentServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code = launch([*words, "--storage", str(root)])
    out, err = capsys.readouterr()
    assert (out + err).replace("***@", "me@").count(
        f"plan.json of run 'theirs' names the study storage {server.url}; give it with --study-storage to read it\n"
    ) == 1
    if words == ["--status"]:
        assert code == 0
        assert [row.split()[0] for row in out.splitlines()[:2]] == ["run", "own"]
    else:
        assert (code, err.count("\n")) == (2, 1)
    time.sleep(0.05)
    assert server.connections == []


def test_a_server_that_the_user_has_named_is_asked_and_a_silent_one_is_waited_for_once(
    root: Path,
    server: SilentServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial_reader, "CONNECT_S", 1)
    known_storages.remember(server.url.replace("me@", "me:secret@"))
    file = Path(os.environ["XDG_STATE_HOME"]) / "robust-tuner" / "storages.json"
    assert (json.loads(file.read_text()), file.stat().st_mode & 0o777) == ([server.url], 0o600)
    assert launch(["--status", "--storage", str(root)]) == 0
    out, _ = capsys.readouterr()
    assert [row.split()[0] for row in out.splitlines()[:2]] == ["run", "own"]
    for name in ("theirs", "theirs-too"):
        assert f"run {name}: cannot read the study storage {server.url}: " in out
    assert "timeout expired" in out
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "crafted",
    [
        "postgresql://bob:@evil.example:6543/x@db.example/study",  # without its password it reads like the known one
        "postgresql://bob:x@evil.example/y@db.example/study",
        "postgresql://bob:pw@db.example/study",
        "postgresql://bob@db.example/study?password=pw",
        "postgresql://bob@evil.example,db.example/study",
    ],
)
def test_a_storage_is_known_to_the_letter_or_not_at_all(
    crafted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown without a password may be another server's URL: the password of ~/.pgpass would go there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = known_storages.RunFolder(str(tmp_path), "run")
    known_storages.remember("postgresql://bob:secret@db.example/study")
    named = "postgresql://bob@db.example/study"
    assert known_storages.storage_to_read(folder, None, named) == named
    with pytest.raises(UsageError, match="give it with --study-storage"):
        known_storages.storage_to_read(folder, None, crafted)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, null]"])
def test_a_damaged_list_of_storages_is_an_empty_one(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "robust-tuner").mkdir()
    (tmp_path / "robust-tuner" / "storages.json").write_text(content)
    assert known_storages.known() == []


def test_the_password_of_the_users_own_variable_goes_to_the_same_storage_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TUNER_STUDY_STORAGE", "postgresql://me:secret@db/x")
    folder = known_storages.RunFolder(str(tmp_path), "r")
    for url in ("postgresql://me@db/x", "postgresql://me@other/x"):
        known_storages.remember(url)
    assert (
        known_storages.storage_to_read(folder, None, "postgresql://me@db/x") == "postgresql://me:secret@db/x"
    )
    assert (
        known_storages.storage_to_read(folder, None, "postgresql://me@other/x") == "postgresql://me@other/x"
    )


def test_a_file_in_the_run_folder_may_be_read_and_one_elsewhere_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TUNER_STUDY_STORAGE", raising=False)
    folder = known_storages.RunFolder(str(tmp_path), "r")
    inside, outside = f"sqlite:///{tmp_path}/r/study.db", f"sqlite:///{tmp_path}/r/../other/study.db"
    assert known_storages.storage_to_read(folder, None, inside) == inside
    with pytest.raises(known_storages.UsageError, match=r"other/study.db; give it with --study-storage"):
        known_storages.storage_to_read(folder, None, outside)
