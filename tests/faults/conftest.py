"""Launches whose processes can be told to break: see hook/sitecustomize.py."""

import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.truth import differences, truth_of
from tests.integration.conftest import ROOT, Done, Launcher, launcher_in

HOOK = Path(__file__).parent / "hook"


def at(
    event: str, do: str, match: str = "", *, call: int = 1, after: bool = False, **more: Any
) -> dict[str, Any]:
    """Return one entry for `Faults.arm`; see hook/sitecustomize.py."""
    return {
        "at": event,
        "do": do,
        "match": match,
        "call": call,
        "when": "after" if after else "before",
        **more,
    }


#: the hook's list, as text: importing it would hook this process
EVENTS = (HOOK / "sitecustomize.py").read_text().partition("EVENTS = (")[2].partition("\n)\n")[0]


@dataclass
class Faults:
    """The damage that the next launches will take."""

    folder: Path

    def arm(self, *faults: dict[str, Any]) -> None:
        """Replace what is armed; counts start anew."""
        for fault in faults:
            assert f'"{fault["at"]}",' in EVENTS, f"{fault['at']} is not an event of the hook"
        for path in (*self.folder.glob("count-*"), self.folder / "fired"):
            path.unlink(missing_ok=True)
        draft = self.folder / "draft"
        draft.write_text(json.dumps(faults))
        draft.replace(self.folder / "faults.json")

    @property
    def fired(self) -> list[str]:
        path = self.folder / "fired"
        return path.read_text().splitlines() if path.exists() else []

    def count(self, number: int) -> int:
        """Return how many calls the entry `number` of those last armed has matched."""
        path = self.folder / f"count-{number}"
        return path.stat().st_size if path.exists() else 0

    @property
    def environment(self) -> dict[str, str]:
        return {"FAULTS_DIR": str(self.folder), "PYTHONPATH": f"{HOOK}:{ROOT}"}


@dataclass
class Study:
    """Runs of the study `tiny`, with damage."""

    launcher: Launcher
    faults: Faults

    def run(self, name: str, *more: str) -> Done:
        """Start the run, or go on with it, one trial at a time unless `more` says otherwise."""
        known = (self.folder(name) / "plan.json").exists()
        which = ["--resume", name] if known else ["--study", "tiny", "--run-name", name]
        workers = [] if "--concurrency" in more else ["--concurrency", "1"]
        done = self.launcher.run(*which, *workers, *more, timeout=800)
        assert done.out.count(" had ended before") <= 1 + done.err.count("; resuming in "), "counted twice"
        return done

    def killed(self, name: str, *faults: dict[str, Any], more: Sequence[str] = ()) -> None:
        """Let the faults kill the driver, or its supervisor with it; the supervisor has the last word."""
        self.faults.arm(*faults)
        done = self.run(name, *more)
        assert self.faults.fired, f"{faults} never happened\n{done.out}{done.err}"
        if any(fault["do"] == "kill-launch" for fault in faults):
            assert done.code == -signal.SIGKILL, f"{faults}: {done.code}\n{done.out}{done.err}"
        else:
            check_last_words(done)
        self.faults.arm()

    def completed(self, name: str, *faults: dict[str, Any], more: Sequence[str] = ()) -> None:
        """Let the faults happen; the launch must come to its end all the same."""
        self.faults.arm(*faults)
        done = self.run(name, *more)
        assert len(self.faults.fired) >= len(faults), f"{self.faults.fired} of {faults}"
        self.faults.arm()
        assert done.code == 0, done.out + done.err

    def folder(self, name: str) -> Path:
        return self.launcher.folder / "runs" / name

    def check(self, name: str, whole: dict[str, Any], url: str = "") -> None:
        """Compare a finished run with the one that nobody disturbed.

        Args:
            url: of the study's database, if it is not in the run's folder.
        """
        if not url:
            assert integrity(self.folder(name) / "study.db") == "ok"
        assert differences(whole, truth_of(self.folder(name), url)) == []


def check_last_words(done: Done) -> None:
    """Check what a launch comes to whose driver got SIGKILL."""
    assert done.code == 1, f"{done.code}\n{done.out}{done.err}"
    assert re.fullmatch(
        r"launch\.py: the driver \(process \d+\) was killed by SIGKILL \(.*\); logs: .*; "
        r"continue with: python .*launch\.py --study tiny --resume run",
        done.err.splitlines()[-1],
    ), done.err


def in_folder(folder: Path) -> Iterator[Study]:
    """Set a folder up for runs of `tiny`."""
    faults = Faults(folder / "faults")
    faults.folder.mkdir()
    for launcher in launcher_in(folder):
        launcher.environment |= faults.environment
        yield Study(launcher, faults)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Everything that a run comes to which nobody disturbs; one trial at a time."""
    for study in in_folder(tmp_path_factory.mktemp("whole")):
        study.completed("run")
        yield truth_of(study.folder("run"))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    yield from in_folder(tmp_path)


def integrity(database: Path) -> str:
    """Return SQLite's own word on a database file: "ok"."""
    with sqlite3.connect(database) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found
