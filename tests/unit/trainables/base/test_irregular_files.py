"""What is no file where one is looked for: a pipe would be waited for without end."""

import os
import socket
from pathlib import Path

import pytest

from trainables.base.permissions import created
from trainables.base.storage import Folder, read_file


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x00content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "file") == b"\x00content"
    assert Folder(tmp_path).read("link") == b"\x00content"


def test_pipes_devices_sockets_and_folders_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        server.bind("socket")
        for name in ("pipe", "link", "device", "socket"):
            with pytest.raises(OSError, match=r"no regular file|No such device") as said:
                Folder(tmp_path).read(name)
            assert said.value.filename == str(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        Folder(tmp_path).read("folder")
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path).read("none")


def test_a_pipe_is_not_waited_for_where_lines_are_added(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="No such device or address"):
        created(tmp_path / "log")
