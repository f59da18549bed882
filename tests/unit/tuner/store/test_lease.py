"""One driver per run, with real processes: same machine, other machines, paused, killed, at the same instant."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainables.base.storage import Folder
from tuner.base.errors import LeaseLost, UsageError
from tuner.base.signals import Signals
from tuner.store import lease_claims
from tuner.store.lease import Lease
from tuner.store.lease_claims import Claim, Watch, process_start, read_claims

ROOT = Path(__file__).resolve().parents[4]
BEAT_S, SILENCE_S = 0.05, 1.5

# takes the lease of a folder and says how it went; "far": pretends to be on a machine of its own
DRIVER = f"""
import os, sys, time
from pathlib import Path
from trainables.base.storage import Folder
from tuner.store import lease, lease_claims
from tuner.base.errors import LeaseLost, UsageError
from tuner.base.signals import Signals
folder, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "far":
    lease_claims.machine = lambda: f"machine of {{os.getpid()}}"
lock = folder / "lease" / "lock" if kind == "local" else None
signals = Signals()
mine = lease.Lease(Folder(folder), lock, beat_s={BEAT_S}, silence_s={SILENCE_S})
print("ready", flush=True)
sys.stdin.readline()
try:
    with mine.held(signals, lambda text: print("waits", flush=True)):
        print("held", flush=True)
        while not signals.stop_requested():
            time.sleep(0.01)
        signals.check()
except UsageError as error:
    print("refused", error, flush=True)
except LeaseLost as error:
    print("lost", error, flush=True)
except BaseException as error:
    print("ended", type(error).__name__, flush=True)
"""


class Driver:
    """A process that takes a lease when told to."""

    def __init__(self, folder: Path, kind: str) -> None:
        command = [sys.executable, "-c", DRIVER, str(folder), kind]
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.line() == "ready"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def answer(self) -> str:
        """Return the next line that says how it went."""
        line = self.line()
        return self.line() if line == "waits" else line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@contextmanager
def drivers(folder: Path, *kinds: str) -> Iterator[list[Driver]]:
    found = [Driver(folder, kind) for kind in kinds]
    try:
        yield found
    finally:
        for driver in found:
            driver.process.kill()
            driver.process.communicate()


@pytest.mark.parametrize("kind", ["local", "near", "far"])
def test_of_drivers_that_start_at_the_same_instant_one_wins(tmp_path: Path, kind: str) -> None:
    """near: an object store, processes of one machine; far: of different machines, seen by their claims alone."""
    with drivers(tmp_path, kind, kind, kind) as found:
        for driver in found:
            driver.go()
        answers = [driver.answer() for driver in found]
        holder = found[answers.index("held")].process.pid
        assert sorted(answer.split()[0] for answer in answers) == ["held", "refused", "refused"], answers
        if kind != "local":  # under a file lock the winner may not have said who it is yet
            assert sum(f"driven by process {holder} on " in answer for answer in answers) == 2, answers
        assert [claim.pid for claim in read_claims(Folder(tmp_path)) if claim.held] == [holder]


@pytest.mark.parametrize("kind", ["local", "near", "far"])
def test_a_killed_driver_is_followed_by_the_next(tmp_path: Path, kind: str) -> None:
    with drivers(tmp_path, kind, kind) as (first, second):
        first.go()
        assert first.answer() == "held"
        first.signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)  # a zombie holds nothing
        second.go()
        # where its process can be seen to be gone nobody waits for it
        assert second.line() == ("waits" if kind == "far" else "held")
        if kind == "far":
            assert second.line() == "held"
        assert [claim.pid for claim in read_claims(Folder(tmp_path))] == [second.process.pid]


def test_a_driver_that_was_frozen_finds_itself_replaced(tmp_path: Path) -> None:
    with drivers(tmp_path, "far", "far") as (frozen, next_one):
        frozen.go()
        assert frozen.answer() == "held"
        frozen.signal(signal.SIGSTOP)
        next_one.go()
        assert next_one.answer() == "held"
        frozen.signal(signal.SIGCONT)
        assert frozen.answer().startswith("lost another driver has taken the run over")
        assert [claim.pid for claim in read_claims(Folder(tmp_path))] == [next_one.process.pid]


def test_a_frozen_driver_on_this_machine_is_not_replaced(tmp_path: Path) -> None:
    with drivers(tmp_path, "near", "near") as (frozen, next_one):
        frozen.go()
        assert frozen.answer() == "held"
        frozen.signal(signal.SIGSTOP)
        next_one.go()
        assert next_one.answer().startswith("refused")


@pytest.mark.parametrize("kind", ["near", "far"])
def test_a_driver_that_is_seen_to_hold_the_run_is_refused_without_trying(tmp_path: Path, kind: str) -> None:
    """Before the imports of a launch; whether a driver on another machine lives takes time to find out."""
    lease = Lease(Folder(tmp_path), None)
    with drivers(tmp_path, kind) as (driver,):
        lease.refuse_if_driven()
        driver.go()
        assert driver.answer() == "held"
        if kind == "far":
            lease.refuse_if_driven()
        else:
            with pytest.raises(UsageError, match=f"driven by process {driver.process.pid} on "):
                lease.refuse_if_driven()
    lease.refuse_if_driven()  # it is dead
    assert len(read_claims(Folder(tmp_path))) == 1  # it wrote and removed nothing


def test_a_request_to_stop_reaches_the_driver_it_names_and_no_other(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    with drivers(tmp_path, "far", "local") as (first, second):
        first.go()
        assert first.answer() == "held"
        files.write(Claim("0123").stop_file, b"{}")
        (claim,) = read_claims(files)
        files.write(claim.stop_file, b"{}")
        assert first.answer() == "ended Interrupted"
        assert files.names("lease") == ["0123.stop"]
        second.go()
        assert second.answer() == "held"


# -- the protocol over a store that takes its time ----------------------------------------------------------


class SlowStore:
    """An object store in memory: whole objects, consistent listings, every call at a moment of its own."""

    def __init__(self, seed: int) -> None:
        self.uri, self.objects, self.random = "store://bucket/run", dict[str, bytes](), random.Random(seed)

    def _pause(self) -> None:
        time.sleep(self.random.random() * 0.003)

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        self._pause()
        self.objects[name] = data
        self._pause()

    def read(self, name: str) -> bytes:
        self._pause()
        try:
            return self.objects[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def names(self, folder: str) -> list[str]:
        self._pause()
        found = sorted(name.removeprefix(f"{folder}/") for name in list(self.objects))
        self._pause()
        return found

    def delete(self, name: str) -> None:
        self._pause()
        self.objects.pop(name, None)


@pytest.mark.parametrize("contenders", [2, 4])
def test_never_two_and_never_none(monkeypatch: pytest.MonkeyPatch, contenders: int) -> None:
    """Twenty rounds of drivers that start within the store's own delays; no machine sees another's processes."""
    monkeypatch.setattr(lease_claims, "machine", lambda: "the observer's")
    for round_ in range(20):
        store: Any = SlowStore(round_)
        held: list[str] = []
        settled = threading.Barrier(contenders)

        def contend(name: str, store: Any = store, held: list[str] = held, settled: Any = settled) -> None:
            mine = Lease(store, None, beat_s=0.01, silence_s=30)
            mine._claim = replace(mine._claim, machine=name)
            try:
                with mine.held(Signals()):
                    held.append(name)
                    settled.wait(30)
            except UsageError:
                settled.wait(30)

        threads = [threading.Thread(target=contend, args=(f"m{i}",)) for i in range(contenders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 1, (round_, held)
        assert store.objects == {}


# -- its parts ----------------------------------------------------------------------------------------------


def test_life_is_judged_by_change_and_by_nobodys_clock() -> None:
    now = [0.0]
    watch = Watch(60, lambda: now[0])
    far = Claim("a", machine="elsewhere", since="2999-01-01T00:00:00+00:00")

    def seen(raw: bytes) -> bool | None:
        return watch.is_alive(replace(far, raw=raw))

    assert seen(b"1") is None
    now[0] = 59.9
    assert seen(b"1") is None
    assert seen(b"2") is True
    now[0] = 119.8
    assert seen(b"2") is True
    now[0] = 119.9
    assert seen(b"2") is False
    assert seen(b"1") is True  # back from the dead, with a counter that went backwards


def test_the_wall_clock_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It jumps back by a year at every look; a dead driver elsewhere is followed all the same, a live one is not."""
    jumps = itertools.count(2_000_000_000, -31_536_000)
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    monkeypatch.setattr(time, "gmtime", lambda: time.localtime(next(jumps)))
    files = Folder(tmp_path)
    files.write("lease/dead.json", json.dumps({"machine": "another", "since": "2999-01-01"}).encode())
    with Lease(files, None, beat_s=0.02, silence_s=0.2).held(Signals()):
        monkeypatch.setattr(lease_claims, "machine", lambda: "a third")
        with pytest.raises(UsageError, match="is being driven by"):
            Lease(files, None, beat_s=0.02, silence_s=5).held(Signals()).__enter__()


def test_a_process_is_known_by_when_it_began() -> None:
    mine = process_start(os.getpid())
    assert mine
    me = Claim("a", pid=os.getpid(), machine=lease_claims.machine(), start=mine)
    assert me.is_alive() is True
    assert replace(me, start=f"{int(mine) - 1}").is_alive() is False  # another one had the number before
    assert replace(me, machine="elsewhere").is_alive() is None
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) == ""  # a zombie
    child.wait()
    assert process_start(child.pid) == ""


def test_a_claim_that_cannot_be_read_holds_until_it_is_silent(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    files.write("lease/ffff.json", b"{ of another version")
    told: list[str] = []
    with Lease(files, None, beat_s=0.02, silence_s=0.2).held(Signals(), told.append):
        assert len(told) == 1
        assert "watching for" in told[0]
        assert len(files.names("lease")) == 1


def beaten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: Path | None) -> tuple[Signals, Lease]:
    """Return a lease whose folder has refused every write for half an hour."""
    now = [0.0]
    signals = Signals()
    mine = Lease(Folder(tmp_path), lock, beat_s=0.01, clock=lambda: now[0])
    with mine.held(signals):

        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(mine.files, "write", full)
        while not mine.problem:
            time.sleep(0.01)
        now[0] = 1800.0
        mine.problem = ""
        while not mine.problem:
            time.sleep(0.01)
        for _ in range(200 if lock is None else 5):
            if signals.stop_requested():
                break
            time.sleep(0.01)
    return signals, mine


def test_without_a_lock_a_lease_that_cannot_be_renewed_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, _ = beaten(tmp_path, monkeypatch, None)
    with pytest.raises(LeaseLost, match="could not be renewed: "):
        signals.check()


def test_under_a_lock_a_full_disk_costs_a_remark_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, mine = beaten(tmp_path, monkeypatch, tmp_path / "lease" / "lock")
    signals.check()
    assert "No space left" in mine.problem


def test_what_a_driver_says_of_itself_can_be_read(tmp_path: Path) -> None:
    mine = Lease(Folder(tmp_path), None, beat_s=BEAT_S)
    with mine.held(Signals()):
        mine.note(stage="search")
        mine.note(concurrency=2)
        before = after = read_claims(Folder(tmp_path))[0].beat
        while after < before + 2:
            (claim,) = read_claims(Folder(tmp_path))
            after = claim.beat
        assert claim.about == {"stage": "search", "concurrency": 2}
        assert claim.held
        assert claim.is_alive() is True
        assert "raw" not in json.loads(claim.raw)
    assert read_claims(Folder(tmp_path)) == []
