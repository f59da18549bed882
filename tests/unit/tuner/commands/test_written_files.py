"""Files that a command makes: written into a new folder, or one line on the folder that takes none."""

from pathlib import Path

import pytest

from tuner.base.errors import UsageError
from tuner.commands.written_files import write_files


def test_files_in_a_folder_that_was_not_there(tmp_path: Path) -> None:
    write_files(tmp_path / "new" / "one", {"a.txt": b"a", "b.txt": b"b"})
    found = {path.name: path.read_bytes() for path in (tmp_path / "new" / "one").iterdir()}
    assert found == {"a.txt": b"a", "b.txt": b"b"}


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(
        UsageError, match=r"^--output .*/taken cannot be written to: [^\n]+; name another folder$"
    ):
        write_files(tmp_path / "taken", {"a.txt": b"a"})
    assert (tmp_path / "taken").read_text() == "mine"
