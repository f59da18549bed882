"""The folder of a run: who may enter it, a root in which none can be made, whether its launch has done as asked."""

import os
from pathlib import Path
from typing import Any

import pytest

from tuner.base.errors import UsageError
from tuner.store.plan_file import has_done_as_asked
from tuner.store.run_folder import RunFolder


def test_a_new_folder_is_private_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    for name, mode in (("new", 0o700), ("old", 0o755)):
        RunFolder(str(tmp_path), name).make()
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_a_root_in_which_no_folder_can_be_made_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"run folder .*/file/r cannot be made .*; name another root with --storage"
    ):
        RunFolder(str(tmp_path / "file"), "r").make()
    (tmp_path / "r").mkdir()
    monkeypatch.setattr(os, "access", lambda path, how: False)
    with pytest.raises(UsageError, match=r"/r cannot be made \(you may not write to it\)") as said:
        RunFolder(str(tmp_path), "r").make()
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("facts", "done"),
    [
        ({"finished": True, "ended": None}, True),
        ({"ended": {"state": "done"}}, True),
        ({"ended": {"state": "failed", "reason": "the driver died"}}, False),
        ({"ended": {"state": "interrupted"}}, False),
        ({"ended": None}, False),
        ({}, False),
    ],
)
def test_a_launch_has_done_as_asked_or_goes_on(facts: dict[str, Any], done: bool) -> None:
    assert has_done_as_asked(facts) is done
