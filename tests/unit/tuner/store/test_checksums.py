"""Values of the study storage that have changed since they were written are told, one for one, and never read back."""

import copy
import json
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runs import METRIC, StoredRun
from tuner.base.checksums import Damaged, checked, with_checksum
from tuner.base.errors import UsageError
from tuner.base.records import State, TrialRecord
from tuner.search.sampler_study import constraint_attributes
from tuner.store.database import open_storage
from tuner.store.trial_format import created_with, facts_of
from tuner.store.trial_reader import read_trials, study_name


def test_a_value_and_its_place_are_covered() -> None:
    stored = json.loads(json.dumps(with_checksum({"a": (1, 2.5), "b": None}, "search", 7, "epoch/1")))
    place = ("search", 7, "epoch/1")
    assert checked(stored, "epoch/1", *place, required=True) == {"a": [1, 2.5], "b": None}
    for other in (("oe", 7, "epoch/1"), ("search", 6, "epoch/1"), ("search", 7, "epoch/3")):
        with pytest.raises(Damaged, match=r"^epoch/1 does not match its checksum$"):
            checked(stored, "epoch/1", *other, required=True)
    assert checked({"a": 1}, "epoch/1", *place, required=False) == {"a": 1}  # of an earlier version
    with pytest.raises(Damaged, match=r"^epoch/1 has no checksum$"):
        checked({"a": 1}, "epoch/1", *place, required=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """Trial 0 complete, 1 stopped early, 2 failed, 3 running; one evaluation."""
    run = StoredRun(tmp_path_factory.mktemp("runs"))
    queue = run.queue()
    run.trial(queue, [0.5, 0.51, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66])
    run.trial(queue, [0.4])
    run.trial(queue, [0.9])
    queue.failed("0002", "ValueError: no")
    run.trial(queue, [0.95, 0.96])
    run.lanes["search"].note("evaluation/0000", {"test/accuracy/clean": 0.9})
    return run


def copy_of(run: StoredRun, folder: Path) -> sqlite3.Connection:
    """Return a copy of the run's database, in one file."""
    copy = sqlite3.connect(folder / "study.db")
    with sqlite3.connect(run.folder.local / "study.db") as connection:
        connection.backup(copy)
    connection.close()
    return copy


def read(run: StoredRun, path: Path) -> tuple[list[TrialRecord], dict[str, object]]:
    return read_trials(f"sqlite:///{path}", run.plan)


Change = Callable[[sqlite3.Connection], object]


def sql(text: str) -> Change:
    return lambda connection: connection.execute(text)


def in_json(table: str, key: str, old: str, new: str) -> Change:
    def change(connection: sqlite3.Connection) -> None:
        where = f"WHERE key = '{key}'"
        (before,) = connection.execute(f"SELECT value_json FROM {table} {where} LIMIT 1").fetchone()
        assert old in before
        connection.execute(f"UPDATE {table} SET value_json = ? {where}", (before.replace(old, new, 1),))

    return change


TRIALS, STUDY = "trial_user_attributes", "study_user_attributes"
CHANGES: list[tuple[str, Change, str]] = [
    ("a metric", in_json(TRIALS, "epoch/9", "0.66", "0.67"), "trial 0000: epoch/9 does not match"),
    ("a decision", in_json(TRIALS, "epoch/9", "done", "prune"), "trial 0000: epoch/9 does not match"),
    ("a seed", in_json(TRIALS, "trial", '"seed": ', '"seed": 1'), "trial 0000: trial does not match"),
    ("a reason", in_json(TRIALS, "end", '"reason": ""', '"reason": "!"'), "trial 0000: end does not match"),
    (
        "a parameter",
        sql(
            "UPDATE trial_params SET param_value = param_value * 1.01 WHERE trial_id = 1 AND param_name = 'lr'"
        ),
        "trial 0000: trial does not match",
    ),
    (
        "a domain",
        sql("UPDATE trial_params SET distribution_json = replace(distribution_json, '0.01', '0.02')"),
        "trial 0000: trial does not match",
    ),
    ("a value", sql("UPDATE trial_values SET value = 0.67"), "trial 0000: its values is"),
    ("a state", sql("UPDATE trials SET state = 'FAIL' WHERE number = 0"), "trial 0000: its state is FAIL"),
    (
        "an end undone",
        sql("UPDATE trials SET state = 'RUNNING' WHERE number = 1"),
        "trial 0001: its state is RUNNING, but it has ended",
    ),
    (
        "no such state",
        sql("UPDATE trials SET state = 'FAIK' WHERE number = 0"),
        "cannot read the study storage",
    ),
    ("a number", sql("UPDATE trials SET number = 7 WHERE number = 3"), "trial 0007: epoch/1 does not match"),
    (
        "a constraint",
        sql("UPDATE trial_system_attributes SET value_json = '0.5' WHERE trial_id = 1"),
        "trial 0000: its constraints is",
    ),
    (
        "an epoch renamed",
        sql("UPDATE trial_user_attributes SET key = 'epoch/7' WHERE key = 'epoch/2' AND trial_id = 4"),
        "trial 0003: epoch/7 does not match",
    ),
    (
        "an epoch of another trial",
        sql("UPDATE trial_user_attributes SET trial_id = 2 WHERE key = 'epoch/2' AND trial_id = 4"),
        "trial 0001: epoch/2 does not match",
    ),
    (
        "a trial without its description",
        sql("UPDATE trial_user_attributes SET key = 'triam' WHERE key = 'trial' AND trial_id = 4"),
        "trial 0003: triam does not match",
    ),
    (
        "a lost epoch",
        sql("DELETE FROM trial_user_attributes WHERE key = 'epoch/9'"),
        "trial 0000: its epochs is 8",
    ),
    ("a lost trial", sql("DELETE FROM trials WHERE number = 1"), "a row of trial_"),
    ("a fact", in_json(STUDY, "reference", "0.95", "0.85"), "reference does not match its checksum"),
    (
        "a fact of another trial",
        sql("UPDATE study_user_attributes SET key = 'evaluation/0003' WHERE key = 'evaluation/0000'"),
        "evaluation/0003 does not match",
    ),
    (
        "another study",
        sql("UPDATE studies SET study_name = 'two' WHERE study_id = 1"),
        "study 'two' was 'one-",
    ),
    (
        "a direction",
        sql("UPDATE study_directions SET direction = 'MINIMIZE'"),
        "the directions of lane search are not those of plan.json",
    ),
    ("not JSON", sql("UPDATE trial_user_attributes SET value_json = '{'"), "cannot read the study storage"),
]


@pytest.mark.parametrize(("change", "says"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_was_changed_is_told(stored: StoredRun, tmp_path: Path, change: Change, says: str) -> None:
    path = tmp_path / "study.db"
    with copy_of(stored, tmp_path) as connection:
        change(connection)
    connection.close()
    with pytest.raises(UsageError) as told:
        read(stored, path)
    assert says in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("key", "where", "value", "says"),
    [
        (
            "evaluation/0000",
            (),
            [],
            "a note of search cannot be read: evaluation/0000 is []; it must be an object",
        ),
        (
            "evaluation/0000",
            ("test/accuracy/clean",),
            "x",
            "a note of search cannot be read: evaluation/0000.test/accuracy/clean: 'x' is no number",
        ),
        ("evaluation/0000", ("test/accuracy/clean",), 10**400, " is no number"),
        ("last_epoch/0000", (), None, "last_epoch/0000 is None; it must be an object"),
        ("last_epoch/0000", (), {"protocol": "p"}, "last_epoch/0000.metrics is missing"),
        ("last_epoch/0000", ("metrics",), 7, "last_epoch/0000.metrics is 7; it must be an object"),
        ("last_epoch/0000", ("metrics",), {"a": {}}, "last_epoch/0000.metrics.a: {} is no number"),
        ("evaluated/0000", ("remarks",), "x", "evaluated/0000.remarks is 'x'; it must be a list"),
        ("evaluated/0000", ("scores_sha256",), 1, "evaluated/0000.scores_sha256 is 1; it must be a text"),
        ("reference", (), [1], "reference is [1]; it must be an object"),
        ("superseded", (), {"a": 1}, "superseded is {'a': 1}; it must be a list"),
        ("trial", (), 1, "trial 0000 cannot be read: trial is 1; it must be an object"),
        (
            "trial",
            ("configuration",),
            [],
            "trial 0000 cannot be read: configuration is []; it must be an object",
        ),
        ("trial", ("seed",), "x", "trial 0000 cannot be read: seed is 'x'; it must be a whole number"),
        ("trial", ("method",), None, "trial 0000 cannot be read: method is None; it must be a text"),
        ("trial", ("starts",), [1], "trial 0000 cannot be read: starts[0] is 1; it must be a text"),
        ("end", ("reason",), {}, "trial 0000 cannot be read: reason is {}; it must be a text"),
        (
            "end",
            ("judged_epoch",),
            "x",
            "trial 0000 cannot be read: judged_epoch is 'x'; it must be a whole number",
        ),
        ("epoch/1", (), [], "trial 0000 cannot be read: epoch/1 is []; it must be an object"),
        ("epoch/1", ("metrics", "seconds"), True, "epoch/1.metrics.seconds: True is no number"),
        ("epoch/1", ("metrics", "seconds"), 10**400, " is no number"),
        ("epoch/1", ("checkpoint",), 0, "epoch/1.checkpoint is 0; it must be a text"),
        ("epoch/1", ("place",), [1], "epoch/1.place has 1 entries; it must have 2"),
    ],
)
def test_a_value_of_a_wrong_type_is_damage_whatever_its_checksum(
    stored: StoredRun, tmp_path: Path, key: str, where: tuple[str, ...], value: object, says: str
) -> None:
    attributes: dict[str, Any] = {
        "evaluation/0000": {"test/accuracy/clean": 0.9},
        "evaluated/0000": {"protocol": "p", "remarks": [], "scores_sha256": ""},
        "last_epoch/0000": {"protocol": "p", "metrics": {"test/accuracy/clean": 0.9}},
        "reference": {},
        "superseded": [],
    }
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with copy_of(stored, tmp_path) as connection:
        pass
    connection.close()
    storage = open_storage(url)
    study = storage.get_study_id_from_name(study_name(stored.plan.run_id, "search"))
    trial = storage.get_all_trials(study)[0]
    changed: Any = attributes[key] if key in attributes else copy.deepcopy(trial.user_attrs[key]["value"])
    if where:
        inner = changed
        for name in where[:-1]:
            inner = inner[name]
        inner[where[-1]] = value
    else:
        changed = value
    if key in attributes:
        storage.set_study_user_attr(study, key, with_checksum(changed, "search", key))
    else:
        inside = constraint_attributes(trial.constraints)
        own = {k: v for k, v in trial.system_attrs.items() if k not in inside}
        made = created_with(trial.params, trial.distributions, own) if key == "trial" else ()
        changed = with_checksum(changed, "search", 0, key, *made)
        with sqlite3.connect(tmp_path / "study.db") as connection:
            connection.execute(
                f"UPDATE {TRIALS} SET value_json = ? WHERE key = ? AND trial_id = ?",
                (json.dumps(changed), key, trial._trial_id),
            )
        connection.close()
    storage.engine.dispose()
    with pytest.raises(Damaged) as told:
        read(stored, tmp_path / "study.db")
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_metric_without_a_value_is_no_damage() -> None:
    assert (
        facts_of({"evaluation/0": {"a": math.nan, "b": math.inf}}, "search")["evaluation/0"]["b"] == math.inf
    )


def test_what_was_not_changed_is_read(stored: StoredRun, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    copy_of(stored, tmp_path).close()
    records, facts = read(stored, path)
    assert [r.state for r in records] == [State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING]
    assert records == stored.lanes["search"].records()
    assert records[2].reason == "ValueError: no"
    assert records[0].judged[METRIC] == 0.66
    assert facts["evaluation/0000"] == {"test/accuracy/clean": 0.9}


def test_the_line_names_file_and_cure(stored: StoredRun, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with copy_of(stored, tmp_path) as connection:
        connection.execute(
            "UPDATE trial_params SET param_value = 1e-3 WHERE param_name = 'lr' AND trial_id < 3"
        )
    connection.close()
    with pytest.raises(UsageError) as told:
        read(stored, path)
    assert str(told.value) == (
        f"sqlite:///{path} is damaged: trial 0000: trial does not match its checksum (and 1 more); restore it from "
        "a copy, or start a new run with --warm-start one, which leaves such trials out"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"\xff" * len(data), "is damaged: file is not a database"),
        (lambda data: data[: len(data) // 2], "is damaged: database disk image is malformed"),
        (lambda data: b"", "is damaged: it holds no trial"),
        (None, "is missing"),
    ],
    ids=["garbage", "cut", "empty", "removed"],
)
def test_a_file_that_is_no_database_any_more(
    stored: StoredRun, tmp_path: Path, change: Callable[[bytes], bytes] | None, says: str
) -> None:
    path = tmp_path / "study.db"
    copy_of(stored, tmp_path).close()
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Damaged) as told:
        read_trials(f"sqlite:///{path}", stored.plan, begun=True)
    assert str(told.value) == f"sqlite:///{path} {says}; restore it from a copy"
