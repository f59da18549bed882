"""Every operation of an event is carried out by the writer; an unknown one is never dropped in silence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.tracking.mlflow_writer import MlflowWriter, _StoredRun
from tuner.tracking.tracker import Tracker


def test_the_tracker_accepts_no_unknown_operation(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "s", "r", tmp_path / "spool", {})
    with pytest.raises(ValueError, match="'energy_used' is no operation of an event; known: start, child"):
        tracker._put(op="energy_used", key="", v={"kwh": 1.0})


def test_the_writer_names_an_unknown_operation_and_goes_on(tmp_path: Path) -> None:
    problems: list[str] = []
    client: Any = SimpleNamespace()
    writer = MlflowWriter("sqlite:///x.db", "s", "r", lambda uri: (client, client), problems.append)
    writer.runs[""] = _StoredRun("1", "RUNNING", {})
    writer.send([{"op": "energy_used", "key": "", "v": {"kwh": 1.0}, "t": 1}])
    assert problems == [
        "study: energy_used left out: there is no operation of that name; known: start, child, inputs, tag, "
        "metrics, final, text, artifact, close"
    ]
