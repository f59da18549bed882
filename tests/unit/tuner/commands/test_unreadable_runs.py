"""Files of a run folder that are not readable, of another kind, or gone meanwhile: one line, the others as before."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runs import StoredRun
from tuner.base.checksums import file_with_checksum
from tuner.cli import run as launch
from tuner.commands.run_state import RunState, read_run
from tuner.commands.watch import WatchedRun
from tuner.store import trial_reader
from tuner.store.lease_claims import Claim, machine, process_start, read_claims
from tuner.store.run_folder import RunFolder


def begin(root: Path, name: str) -> StoredRun:
    run = StoredRun(root, name)
    run.trial(run.queue(), [0.4, 0.5])
    with closing(sqlite3.connect(run.folder.local / "study.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for end in ("-wal", "-shm"):
        (run.folder.local / f"study.db{end}").unlink(missing_ok=True)
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with the run "bad", which the tests spoil, and the run "good"."""
    root = tmp_path / "runs"
    begin(root, "bad")
    begin(root, "good")
    return root


def ask(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> tuple[int, str]:
    code = launch([*arguments, "--storage", str(root)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out + err


def forbid(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let this process, which may be root's, neither open a file nor list a folder."""

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(of: Any = ".", *arguments: Any, **more: Any) -> Any:
            if not isinstance(of, int) and os.fspath(of) == str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return call(of, *arguments, **more)

        return refused

    for name in ("open", "listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def replaced(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    return path


MAKE: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(replaced(path)),
    "folder": lambda path: replaced(path).mkdir(),
    "circle": lambda path: replaced(path).symlink_to(path.name),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", ["plan.json", "study.db", "study.db-wal"])
def test_what_is_no_file_is_told_in_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    MAKE[kind](root / "bad" / name)
    code, text = ask(capsys, root, "--status")
    assert code == 0
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["run", "good"]
    assert len(lines) == 3
    assert lines[2].startswith("run bad: ")
    for arguments in (["--status", "bad"], ["--why", "bad", "0"], ["--compare", "bad", "good"]):
        code, text = ask(capsys, root, *arguments)
        assert (code, text.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["plan.json", "study.db", "lease"])
def test_what_may_not_be_read_is_told_in_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (root / "bad" / "lease").mkdir(exist_ok=True)
    forbid(monkeypatch, root / "bad" / name)
    code, text = ask(capsys, root, "--status")
    assert code == 0
    assert text.splitlines()[1].startswith("good ")
    assert text.splitlines()[2].startswith("run bad: ")
    assert text.endswith(": Permission denied\n")
    code, text = ask(capsys, root, "--status", "bad")
    assert (code, text.count("\n")) == (2, 1)
    page = WatchedRun(lambda: read_run("bad", str(root)))
    page.look()
    assert page.page.failed
    assert b"Permission denied" in page.page.body


def test_a_claim_that_may_not_be_read_is_of_nobody_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim("0123456789abcdef", "elsewhere", 12, "another boot")
    folder = RunFolder(str(root), "bad")
    folder.files.write(claim.file, claim.to_json())
    forbid(monkeypatch, folder.local / claim.file)
    (found,) = read_claims(folder.files)
    assert str(found) == "an unknown driver (lease/0123456789abcdef.json cannot be read)"
    assert read_run("bad", str(root), sleep=lambda _: None).state is RunState.SILENT
    os.utime(folder.local / claim.file, ns=(1, 1))
    assert read_claims(folder.files)[0].raw != found.raw  # it is renewed: its driver lives
    assert read_run("good", str(root)).state is RunState.INTERRUPTED


def test_a_database_that_goes_while_it_is_read_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, file = trial_reader._read_file, root / "bad" / "study.db"

    def reading(name: str, look: Any) -> Any:
        found = read(name, look)
        if str(file) in name:
            file.unlink()
        return found

    RunFolder(str(root), "bad").update(read_by_search=["train"])
    monkeypatch.setattr(trial_reader, "_read_file", reading)
    code, text = ask(capsys, root, "--status")
    assert code == 0
    assert text.splitlines()[2] == (f"run bad: sqlite:///{file} is missing; restore it from a copy")


def test_a_folder_whose_name_is_not_utf_8(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root / "bad", Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")))
    code, text = ask(capsys, root, "--status")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["run", "bad", "good"]
    assert text.splitlines()[3] == (
        rf"run caf\udce9: {root}/caf\udce9: the path is not UTF-8, and a database has no such name; rename it"
    )
    assert ask(capsys, root, "--compare", "good", "caf\udce9")[0] == 2


def test_a_root_that_may_not_be_listed(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, root)
    for arguments in (["--status"], ["--watch"], ["--study", "aoe_sigma", "--resume", "--dry-run"]):
        code, text = ask(capsys, root, *arguments)
        assert code == 2
        assert text.endswith(f"the folder of runs {root} cannot be listed: Permission denied\n")
        assert text.count("\n") == 1


@pytest.mark.parametrize("kind", ["forbidden", "pipe", "folder"])
def test_a_log_that_cannot_be_read(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    log = root / "bad" / "logs" / "0000.log"
    MAKE[kind](log) if kind in MAKE else forbid(monkeypatch, log)
    reason = {"forbidden": "Permission denied", "pipe": "it is no regular file", "folder": "Is a directory"}
    code, text = ask(capsys, root, "--why", "bad", "0")
    assert code == 0
    assert text.endswith(f"its log {log} cannot be read: {reason[kind]}\n")


def test_checkpoints_that_may_not_be_listed(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = root / "bad" / "checkpoints" / "0000"
    where.mkdir(parents=True, exist_ok=True)
    forbid(monkeypatch, where)
    for action in ("--evaluate", "--export"):
        code, text = ask(capsys, root, action, "bad/0")
        assert code == 2
        assert text.endswith(f"{where}: Permission denied\n")
        assert text.count("\n") == 1


def test_a_report_and_a_claimed_original_that_are_pipes(root: Path) -> None:
    folder = RunFolder(str(root), "bad")
    folder.update(finished=True, ended={"state": "done", "reason": ""})
    os.mkfifo(folder.local / "report.html")
    page = WatchedRun(lambda: read_run("bad", str(root)))
    page.look()
    assert page.page.body.endswith(b"/report.html cannot be read: it is no regular file\n")
    elsewhere = root.parent / "elsewhere" / "x"
    elsewhere.mkdir(parents=True)
    os.mkfifo(elsewhere / "plan.json")
    data = folder.entries() | {"folder": str(elsewhere)}
    folder.files.write("plan.json", file_with_checksum(data))
    assert read_run("bad", str(root)).original is None


def test_a_measured_cost_that_is_a_pipe_is_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(root / "bad" / "usage.json")
    (root / "good" / "usage.json").symlink_to("nothing")
    assert ask(capsys, root, "--study", "aoe_sigma", "--dry-run")[0] == 0


def test_a_line_feed_in_a_name_or_a_host_forges_no_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "bad").rename(root / "x\nrun evil: done")
    claim = Claim("0123456789abcdef", "h\nevil", os.getppid(), machine(), process_start(os.getppid()))
    RunFolder(str(root), "good").files.write(claim.file, claim.to_json())
    code, text = ask(capsys, root, "--status")
    assert code == 0
    assert len(text.splitlines()) == 3
    assert any(line.startswith(r"x\nrun evil: done  aoe_sigma ") for line in text.splitlines())
    assert rf"driver: process {os.getppid()} on h\nevil, since" in ask(capsys, root, "--status", "good")[1]
    (root / "x\nrun evil: done" / "plan.json").write_text("damaged")
    code, text = ask(capsys, root, "--status")
    assert text.splitlines()[2].startswith(r"run x\nrun evil: done: ")
    assert len(text.splitlines()) == 3
