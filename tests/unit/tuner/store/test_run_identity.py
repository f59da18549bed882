"""Which run a folder holds: renamed, moved, copied, of an earlier version, or without a plan."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tuner.base.errors import UsageError
from tuner.commands.open_run import new_run, stored_run
from tuner.commands.session import _store_launch
from tuner.planning.launch_options import LaunchOptions
from tuner.store.run_folder import RunFolder, find_by_id, find_unfinished
from tuner.store.trial_reader import study_name

COMMAND = "python launch.py --study aoe_sigma"


def begin(root: str, name: str = "one") -> str:
    """Create a run as a launch does and return its id."""
    folder, plan = new_run(
        LaunchOptions("aoe_sigma", run_name=name, storage=root, study_storage=URL), COMMAND
    )
    on_disk(folder.uri).mkdir(parents=True, exist_ok=True)  # which a bucket does not need
    folder.create(plan, {})
    return plan.run_id


def resume(root: str, name: str) -> str:
    """Go on with a run as a launch does, and return the id of what it goes on with."""
    options = LaunchOptions(resume=name, storage=root, study_storage=URL)
    folder, plan, options = stored_run(options, f"python launch.py --resume {name}")
    assert plan.run_name == name
    _store_launch(plan, folder, options, {}, "sqlite:///mlflow.db")
    return plan.run_id


URL = "sqlite:////nowhere/study.db"


@pytest.fixture(params=["local", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a root of runs; pyarrow's file:// takes the ways of an object store."""
    monkeypatch.setenv("TUNER_DRIVER_DIR", str(tmp_path / "driver"))
    runs = tmp_path / "runs"
    runs.mkdir()
    return str(runs) if request.param == "local" else f"file://{runs}"


def on_disk(root: str) -> Path:
    return Path(root.removeprefix("file://"))


def stored(root: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((on_disk(root) / name / "plan.json").read_text())
    return found


def test_every_run_has_an_id_of_its_own(root: str) -> None:
    first, second = begin(root), begin(root, "two")
    shutil.rmtree(on_disk(root) / "one")
    shutil.rmtree(on_disk(root).parent / "driver", ignore_errors=True)
    again = begin(root)
    assert len({first, second, again}) == 3
    assert re.fullmatch(r"one-[0-9a-f]{12}", again)
    assert stored(root, "one")["plan"]["run_id"] == again
    assert study_name(again, "search") == again
    assert study_name(again, "oe") == f"{again}/oe"


def test_a_renamed_or_moved_run_goes_on_under_its_id(root: str) -> None:
    run_id = begin(root)
    (on_disk(root) / "one").rename(on_disk(root) / "two")
    begin(root)  # the name is free again: a run of its own, of which "two" is no copy
    assert resume(root, "two") == run_id
    assert (stored(root, "two")["run"], stored(root, "two")["folder"]) == ("two", f"{root}/two")
    elsewhere = f"{root}-moved"
    on_disk(root).rename(on_disk(elsewhere))
    assert resume(elsewhere, "two") == run_id
    assert find_by_id(run_id, "one", elsewhere).name == "two"
    with pytest.raises(UsageError, match=rf"run 'x' \(id x-1\) is not in {elsewhere}; name the root"):
        find_by_id("x-1", "x", elsewhere)


def test_a_copy_is_refused_before_anything_is_written(root: str) -> None:
    run_id = begin(root)
    shutil.copytree(on_disk(root) / "one", on_disk(root) / "two")
    before = (on_disk(root) / "two" / "plan.json").read_bytes()
    with pytest.raises(UsageError) as refused:
        resume(root, "two")
    assert str(refused.value) == (
        f"{root}/two is a copy of {root}/one, and a run goes on in one folder only: continue that one with "
        f"--resume one --storage {root}, or start a new one with --warm-start two"
    )
    assert (on_disk(root) / "two" / "plan.json").read_bytes() == before
    assert sorted(p.name for p in (on_disk(root) / "two").iterdir()) == ["plan.json"]
    assert find_unfinished("aoe_sigma", root) == "one"
    assert find_by_id(run_id, "one", root).name == "one"
    assert resume(root, "one") == run_id
    shutil.rmtree(on_disk(root) / "one")  # now the copy is all that there is
    assert find_unfinished("aoe_sigma", root) == "two"
    assert resume(root, "two") == run_id


def test_a_folder_reached_by_two_paths_is_no_copy(tmp_path: Path) -> None:
    run_id = begin(str(tmp_path / "runs"))
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "alias").symlink_to(tmp_path / "runs" / "one")
    assert resume(str(tmp_path / "link"), "one") == run_id
    assert resume(str(tmp_path / "runs"), "alias") == run_id


def plan_of(folder: Path) -> tuple[RunFolder, dict[str, Any]]:
    run = RunFolder(str(folder.parent), folder.name)
    return run, run.entries()


def original_of(folder: Path) -> str:
    run, data = plan_of(folder)
    found = run.original(data)
    return "" if found is None else found.uri


def test_a_run_that_is_renamed_and_then_copied_is_one_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run_id = begin(str(runs))
    (runs / "one").rename(runs / "z")
    time.sleep(0.02)  # the clock of a file system is coarse
    subprocess.run(["cp", "-a", runs / "z", runs / "y"], check=True)
    (runs / "alias").symlink_to("z")
    assert original_of(runs / "z") == original_of(runs / "alias") == ""
    assert original_of(runs / "y") == f"{runs}/z"
    with pytest.raises(UsageError, match=r"/y is a copy of .*/z, .* continue that one with --resume z "):
        resume(str(runs), "y")
    assert find_unfinished("aoe_sigma", str(runs)) in ("z", "alias")
    runs.rename(tmp_path / "moved")
    runs = tmp_path / "moved"
    assert (original_of(runs / "z"), original_of(runs / "y")) == ("", f"{runs}/z")
    os.utime(runs / "z" / "plan.json")  # as if it had been written later than the copy
    assert (original_of(runs / "z"), original_of(runs / "y")) == (f"{runs}/y", "")
    shutil.copytree(runs / "z", runs / "one")  # the name at the last launch comes first
    assert [original_of(runs / name) for name in "yz"] == [f"{runs}/one"] * 2
    shutil.rmtree(runs / "one")
    assert resume(str(runs), "y") == run_id  # from now on its plan names it
    assert (original_of(runs / "y"), original_of(runs / "z")) == ("", f"{runs}/y")
    shutil.rmtree(runs / "y")
    assert resume(str(runs), "z") == run_id


def of_an_earlier_version(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    del plan["plan"]["run_id"], plan["folder"], plan["checksum"]
    (folder / "plan.json").write_text(json.dumps(plan))


def test_a_run_of_an_earlier_version_keeps_the_name_it_was_given(root: str) -> None:
    begin(root)
    of_an_earlier_version(on_disk(root) / "one")
    shutil.copytree(on_disk(root) / "one", on_disk(root) / "copy")
    with pytest.raises(UsageError, match=f"{root}/copy is a copy of {root}/one, "):
        resume(root, "copy")
    (on_disk(root) / "one").rename(on_disk(root) / "two")
    shutil.rmtree(on_disk(root) / "copy")
    for _ in range(2):
        assert resume(root, "two") == "one"
    assert stored(root, "two")["plan"]["run_id"] == "one"


def test_a_folder_without_a_plan_is_no_run_yet(root: str) -> None:
    """Killed after it took the lease, or while plan.json was written."""
    lease = on_disk(root) / "one" / "lease"
    lease.mkdir(parents=True)
    (lease / "abc.json").write_text("{}")
    (on_disk(root) / "one" / ".plan.json.12ab.tmp").write_text('{"run": ')
    with pytest.raises(UsageError) as told:
        resume(root, "one")
    assert str(told.value) == (
        f"run 'one' holds no plan.json in {root}: its launch was stopped before it began; "
        "start it with --study STUDY --run-name one"
    )
    begin(root)
    with pytest.raises(
        UsageError, match=f"run 'one' exists in {root}; continue it with --resume one or choose"
    ):
        begin(root)


def test_what_else_lies_in_a_folder_is_not_mixed_with_a_new_run(root: str) -> None:
    (on_disk(root) / "one" / "checkpoints").mkdir(parents=True)
    (on_disk(root) / "one" / "study.db").touch()
    with pytest.raises(UsageError, match=f"{root}/one holds checkpoints, study.db and no plan.json"):
        begin(root)


def test_a_file_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(UsageError, match=f"{tmp_path}/one is a file; choose another --run-name"):
        begin(str(tmp_path))


def test_a_storage_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> list[str]:
        raise OSError("connection refused")

    monkeypatch.setattr("trainables.base.storage.Folder.names", away)
    with pytest.raises(UsageError, match=f"{tmp_path}/one cannot be read: connection refused"):
        RunFolder(str(tmp_path), "one").exists()
