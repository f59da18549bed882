"""Stored outlier scores: those that were written, or none and the trial is evaluated again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.runs import StoredRun
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.store.evaluation_store import EvaluationStore, protocol_id

SCORES = {"id": np.linspace(0, 1, 50, dtype=np.float32), "far": np.linspace(1, 2, 9, dtype=np.float32)}
PROTOCOL = EvaluationProtocol("test")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    return StoredRun(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def store(run: StoredRun) -> EvaluationStore:
    found = EvaluationStore(run.lanes["search"], run.folder)
    for key in ("0000", "0001"):
        scores = {name: values + int(key) for name, values in SCORES.items()}
        found.add(key, PROTOCOL, {"test/x": 1.0}, [], scores)
    found.add("0002", PROTOCOL, {"test/x": 1.0}, [], {})
    return found


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def test_what_is_whole_is_read(store: EvaluationStore) -> None:
    for name, values in store.scores("0000").items():
        np.testing.assert_array_equal(values, SCORES[name])
    assert store.scores("0002") == {}
    assert store.protocols() == dict.fromkeys(("0000", "0001", "0002"), protocol_id(PROTOCOL))
    assert [store.unreadable(key) for key in ("0000", "0002", "0003")] == ["", "", ""]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-30], flipped, lambda data: b"", lambda data: b"{}" * 99, None, "0001"],
    ids=["cut", "one bit", "empty", "foreign", "gone", "of another trial"],
)
def test_what_is_damaged_is_to_be_made_again(
    run: StoredRun, store: EvaluationStore, damage: Callable[[bytes], bytes] | str | None
) -> None:
    name = "evaluations/0000.npz"
    if damage is None:
        run.folder.files.delete(name)
    elif isinstance(damage, str):
        run.folder.files.write(name, run.folder.files.read(f"evaluations/{damage}.npz"))
    else:
        run.folder.files.write(name, damage(run.folder.files.read(name)))
    assert store.scores("0000") == {}
    assert list(store.protocols()) == ["0001", "0002"]
    assert store.unreadable("0000") == (
        "evaluations/0000.npz is damaged or lost; a resume with the stage evaluate makes it again"
    )
    store.add("0000", PROTOCOL, {"test/x": 1.0}, [], SCORES)
    assert store.unreadable("0000") == ""


def test_an_evaluation_of_an_earlier_version(run: StoredRun, store: EvaluationStore, tmp_path: Path) -> None:
    """It noted no checksum of its file: the archive's own are compared, and a file may be missing."""
    run.lanes["search"].note("evaluated/0000", {"protocol": "p", "remarks": []})
    assert list(store.scores("0000")) == ["id", "far"]
    run.folder.files.write("evaluations/0000.npz", flipped(run.folder.files.read("evaluations/0000.npz")))
    assert "0000" not in store.protocols()
    run.folder.files.delete("evaluations/0000.npz")
    assert store.protocols()["0000"] == "p"
