"""Mutated run folders: every read-only command answers as before, or with a line that says what is damaged.

A mutation flips a bit, cuts, empties, swaps or fills a file, or changes a value in JSON or SQL. Never a traceback,
never an exit status but 0, 1 or 2, never another value in silence, and never a word less about the other run.

    python -m pytest tests/unit/tuner/commands/test_damage.py -m long       # thousands
    TUNER_DAMAGE_SEED=7 python -m pytest tests/unit/tuner/commands/test_damage.py
"""

import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.runs import StoredRun
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.base.errors import UsageError
from tuner.cli import run as launch
from tuner.commands import run_state, status, stop
from tuner.planning import cost_history
from tuner.store.evaluation_store import EvaluationStore
from tuner.store.lease_claims import Claim, machine
from tuner.store.run_folder import RunFolder
from tuner.store.trial_reader import read_trials
from tuner.tracking.spool import Spool

SEED = int(os.environ.get("TUNER_DAMAGE_SEED", "0"))
#: one of these stands in the answer of a command that met damage
SAYS = ("damaged", "cannot be read", "cannot read", "unknown driver", "does not exist")
TEXTS = ("logs", "console.log", "report.md", "report.html", "trials.csv")  # shown as they are, or never read
SCORES = {"id": np.linspace(0, 1, 50, dtype=np.float32), "far": np.linspace(1, 2, 50, dtype=np.float32)}

Answer = tuple[int, str]
Mutation = Callable[[Path, random.Random], None]


# -- the runs ----------------------------------------------------------------------------------------------


def make_run(root: Path, name: str, finished: bool) -> None:
    run = StoredRun(root, name, trials=6)
    queue = run.queue()
    run.trial(queue, [0.5, 0.51, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66])
    run.trial(queue, [0.4])
    run.trial(queue, [0.9])
    queue.failed("0002", "ValueError: no")
    run.folder.log("0002", "FAIL ValueError: no")
    if not finished:
        run.trial(queue, [0.95, 0.96])
    evaluations = EvaluationStore(run.lanes["search"], run.folder)
    evaluations.add("0000", EvaluationProtocol("test"), {"test/accuracy/clean": 0.9}, ["a remark"], SCORES)
    run.folder.write_json(cost_history.FILE, cost_history.to_json(run.plan, run.lanes["search"].records()))
    run.folder.write_json("timings.json", {"search": 1.5})
    ended = {"state": "done" if finished else "interrupted", "reason": "", "at": "2026-01-01T00:00:00+00:00"}
    run.folder.update(finished=finished, ended=ended, read_by_search=["train", "val_id"])
    if not finished:
        dead = Claim("0123456789abcdef", "here", 2**22 - 1, machine(), "1", about={"stage": "search"})
        run.folder.files.write(dead.file, dead.to_json())
    spool = Spool(run.folder.local / "mlflow.spool")
    spool.append({"op": "metrics", "key": "0000"})
    spool.close()
    for text in ("report.html", "report.md", "trials.csv", "console.log"):
        (run.folder.local / text).write_text("text\n")
    with contextlib.closing(sqlite3.connect(run.folder.local / "study.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for end in ("-wal", "-shm"):
        (run.folder.local / f"study.db{end}").unlink(missing_ok=True)


def of_an_earlier_version(folder: Path) -> None:
    """Take all checksums away."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as connection, connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key = 'checksums'")
        for table in ("study_user_attributes", "trial_user_attributes"):
            for row, text in connection.execute(f"SELECT rowid, value_json FROM {table}").fetchall():
                plain = json.dumps(json.loads(text)["value"])
                connection.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (plain, row))
    for path in folder.rglob("*.json"):
        path.write_text(
            json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"})
        )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an interrupted run, a finished one, and one that is never touched."""
    root = tmp_path_factory.mktemp("base")
    make_run(root, "cut", finished=False)
    make_run(root, "done", finished=True)
    make_run(root, "other", finished=True)
    return root.rename(
        root.with_name("moved")
    )  # so that what the tests copy is no copy of a run that still exists


# -- mutations ---------------------------------------------------------------------------------------------


def flip_bit(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    places = [rng.randrange(len(data)) for _ in range(20)]
    place = next((p for p in places if data[p]), places[0])  # most bytes of a database are empty room
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def garbage(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 100, 5000))))


def swap(path: Path, rng: random.Random) -> None:
    """Put another file of the run in its place."""
    folder = next(parent for parent in path.parents if (parent / "plan.json").exists())
    path.write_bytes(rng.choice([p for p in files_of(folder) if p != path]).read_bytes())


LEAVES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**70, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J\u202e"),
    *([], {}, [[]], {"a": {}}, "../../etc/passwd", "python launch.py '", "9999-99-99"),
)


def json_value(path: Path, rng: random.Random) -> None:
    """Put another value, or another key, somewhere into a JSON file, as text that need not be valid."""
    content = json.loads(path.read_text())
    inner, place = content, None
    while isinstance(inner, (dict, list)) and inner and (place is None or rng.random() < 0.8):
        holder, place = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner = holder[place]
    action = rng.choice(("value", "value", "value", "key", "gone"))
    if action == "value" or isinstance(holder, list):
        holder[place] = rng.choice(LEAVES)
    elif action == "key":
        holder[f"{place}x"] = holder.pop(place)
    else:
        del holder[place]
    path.write_text(json.dumps(content))


def sql_value(path: Path, rng: random.Random) -> None:
    """Put another value into one cell of the database."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        names = [
            n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]
        table = rng.choice([n for n in names if connection.execute(f"SELECT 1 FROM {n}").fetchone()])
        column = rng.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
        row, before = rng.choice(connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall())
        values = [
            None,
            -1,
            0,
            1,
            7,
            2**62,
            0.25,
            float("inf"),
            "",
            "x",
            "{}",
            "[]",
            '"a"',
            b"\xff",
            "FAIL",
            "RUNNING",
        ]
        if isinstance(before, str) and before:
            at = rng.randrange(len(before))
            values += [before[:at] + chr(ord(before[at]) ^ 1) + before[at + 1 :]] * 10
        with contextlib.suppress(sqlite3.IntegrityError):  # the schema refuses: nothing has changed
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (rng.choice(values), row))


def mutations_for(path: Path) -> list[Mutation]:
    found: list[Mutation] = [flip_bit, flip_bit, truncate, empty, garbage, swap]
    if path.suffix == ".json":
        found += [json_value] * 6
    return found + [sql_value] * 12 if path.name == "study.db" else found


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts)


# -- commands ----------------------------------------------------------------------------------------------


def ask(*arguments: str) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = launch(arguments)
    return code, out.getvalue() + err.getvalue()


def scores(root: Path, name: str) -> Answer:
    """What a report reads of an evaluation; what cannot be read is to be measured again."""
    folder = RunFolder(str(root), name)
    try:
        plan, _ = folder.read()
        facts = read_trials(folder.storage_url(None), plan)[1]
        store = EvaluationStore(SimpleNamespace(notes=lambda: facts), folder)  # type: ignore[arg-type]
        found = store.scores("0000")
    except UsageError as error:
        return 2, str(error)
    if not found:
        assert "0000" not in store.protocols()
        return 0, "damaged"
    return 0, str({key: value.tobytes() for key, value in found.items()})


def commands(root: Path, name: str) -> dict[str, Callable[[], Answer]]:
    at = ("--storage", str(root))
    new = ("--study", "aoe_sigma", "--run-name", "new", "--dry-run", *at)
    return {
        "list": lambda: ask("--status", *at),
        "status": lambda: ask("--status", name, *at),
        "status as JSON": lambda: ask("--status", name, "--json", *at),
        "why 0": lambda: ask("--why", name, "0", *at),
        "why 2": lambda: ask("--why", name, "2", *at),
        "resume": lambda: ask("--resume", name, "--dry-run", *at),
        "warm start": lambda: ask(*new, "--warm-start", name),
        "preview": lambda: ask(*new),
        "stop": lambda: ask("--stop", name, *at),
        "scores": lambda: scores(root, name),
    }


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock in the answers, and nobody waits."""
    monkeypatch.setattr(status, "age", lambda since: since)
    monkeypatch.setattr(run_state, "CLAIM_WAIT_S", -1.0)
    monkeypatch.setattr(stop.stop, "__defaults__", (0.0,))


def row_of(text: str, name: str) -> list[str]:
    return next((line.split() for line in text.splitlines() if line.split()[:1] == [name]), [])


def check(base: Path, tmp_path: Path, count: int, seed: int, values_may_differ: bool = False) -> None:
    """Mutate one file at a time and ask for all runs or for this one; then put the file back."""
    rng = random.Random(seed)
    root = tmp_path / "runs"
    shutil.copytree(base, root)
    asked = {name: commands(root, name) for name in ("cut", "done")}
    clean = {(name, what): command() for name in asked for what, command in asked[name].items()}
    for (name, what), (code, text) in clean.items():
        assert code == (2 if what == "stop" else 0), (name, what, text)
    known = {name: set(files_of(root / name)) for name in asked}
    told = 0
    for number in range(count):
        name = rng.choice(("cut", "done"))
        path = rng.choice([p for p in files_of(root / name) for _ in range(8 if p.name == "study.db" else 1)])
        mutate, before = rng.choice(mutations_for(path)), path.read_bytes()
        mutate(path, rng)
        what = rng.choice(["list", *asked[name]])
        story = f"seed {seed}, mutation {number}: {mutate.__name__} of {path.relative_to(root)}, then {what}"
        code, text = asked[name][what]()
        assert code in (0, 1, 2), story
        assert "Traceback" not in text, f"{story}: {text}"
        seen = (c.isprintable() or c == "\n" or unicodedata.category(c) == "Zs" for c in text)
        assert all(seen), f"{story}: {text!r}"
        if what == "list":
            assert code == 0, f"{story}: {text}"
            assert row_of(text, "other") == row_of(clean[name, what][1], "other"), f"{story}: {text}"
        elif code and what != "stop":
            assert len(text.splitlines()) == 1, f"{story}: {text}"
        shown_as_it_is = path.relative_to(root / name).parts[0] in TEXTS
        if not (values_may_differ or shown_as_it_is):
            says = any(word in text for word in SAYS)
            assert (code, text) == clean[name, what] or says, f"{story}: {text}"
            told += says
        for left in set(files_of(root / name)) - known[name]:  # a request to stop
            left.unlink()
        path.write_bytes(before)
    assert values_may_differ or told > count / 10  # the mutations do hit something


@pytest.mark.slow
def test_damaged_files(base: Path, tmp_path: Path, still: None) -> None:
    check(base, tmp_path, 150, SEED)


@pytest.mark.slow
def test_damaged_files_without_checksums(base: Path, tmp_path: Path, still: None) -> None:
    """Of earlier versions: values may differ then, but every line is one line."""
    old = tmp_path / "old"
    shutil.copytree(base, old)
    for name in ("cut", "done"):
        of_an_earlier_version(old / name)
    check(old, tmp_path, 75, SEED, values_may_differ=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(SEED + 1, SEED + 9))
def test_thousands_of_damaged_files(base: Path, tmp_path: Path, still: None, seed: int) -> None:
    check(base, tmp_path, 500, seed)
