"""Every operation of an event is carried out by the writer; an unknown one is never dropped in silence."""

import base64
import json
import secrets
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.tracking.mlflow_writer import MlflowWriter
from tuner.tracking.notes import CLOSING, NOTE, signed
from tuner.tracking.problems import Problems
from tuner.tracking.study_runs import StoredRun
from tuner.tracking.tracker import Tracker


def test_the_tracker_accepts_no_unknown_operation(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "s", "r", "r-1", tmp_path / "spool", {})
    with pytest.raises(ValueError, match="'energy_used' is no operation of an event; known: start, child"):
        tracker._put(op="energy_used", key="", v={"kwh": 1.0})


def test_the_writer_names_an_unknown_operation_and_goes_on(tmp_path: Path) -> None:
    problems = Problems()
    client: Any = SimpleNamespace()
    writer = MlflowWriter("sqlite:///x.db", "s", "r", "r-1", lambda uri: (client, client), problems, tmp_path)
    writer.runs[""] = StoredRun("1", "RUNNING", 0, {})
    writer.send([{"op": "energy_used", "key": "", "v": {"kwh": 1.0}, "t": 1}])
    assert problems.lines() == [
        "study: energy_used left out: there is no operation of that name; known: start, child, inputs, tag, "
        "metrics, final, text, artifact, view, note, experiment_tags, close, settle"
    ]


def test_only_files_of_the_run_folder_are_uploaded(tmp_path: Path) -> None:
    """A spool is a file in the run folder: whoever may write there may name any path."""
    run, elsewhere = tmp_path / "run", tmp_path / "secret"
    run.mkdir()
    elsewhere.write_text("a key")
    (run / "report.html").write_text("ours")
    (run / "link").symlink_to(elsewhere)
    (run / "linked").symlink_to(tmp_path)
    uploaded: list[tuple[str, str | None]] = []
    problems = Problems()
    client: Any = SimpleNamespace(
        log_artifact=lambda run_id, path, folder: uploaded.append((path, folder)),
        get_experiment=lambda experiment: None,
    )
    writer = MlflowWriter("sqlite:///x.db", "s", "r", "r-1", lambda uri: (client, client), problems, run)
    writer.runs[""] = StoredRun("1", "RUNNING", 0, {})
    asked = [
        str(run / "report.html"),
        "report.html",
        str(elsewhere),
        "../secret",
        "link",
        "linked/secret",
        "/etc/passwd",
    ]
    writer._study.client = client
    writer.send([{"op": "artifact", "key": "", "path": path, "folder": ""} for path in asked])
    assert uploaded == [(str(run / "report.html"), None)] * 2
    assert problems.lines() == [
        f"study: {elsewhere} is not in the run folder, so it is not uploaded (and 4 more like it)"
    ]


def test_undelivered_files_are_found_after_the_run_was_moved(tmp_path: Path) -> None:
    """The spool names them within the run folder; earlier versions wrote absolute paths."""
    old, new = tmp_path / "old", tmp_path / "new"
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "s", "r", "r-1", old / "mlflow.spool", {})
    tracker.artifact("", old / "report.html")
    tracker.artifact("", old / "files" / "a.png", "files")
    events = list(tracker._spool)
    assert [event["path"] for event in events] == ["report.html", "files/a.png"]
    (old / "report.html").touch()
    old.rename(new)
    uploaded: list[str] = []
    client: Any = SimpleNamespace(log_artifact=lambda run_id, path, folder: uploaded.append(path))
    problems = Problems()
    writer = MlflowWriter("sqlite:///x.db", "s", "r", "r-1", lambda uri: client, problems, new, old)
    writer.runs[""] = StoredRun("1", "RUNNING", 0, {})
    writer._study.client = client
    absolute = [{**event, "path": str(old / event["path"])} for event in events]
    leaving = {**events[0], "path": f"{old}/../secret"}
    (tmp_path / "secret").touch()
    writer.send([*events, *absolute, leaving])
    assert uploaded == [str(new / "report.html")] * 2
    assert problems.lines() == [
        "study: no file files/a.png to upload (and 1 more like it)",
        f"study: {old}/../secret is not in the run folder, so it is not uploaded",
    ]


def test_a_problem_that_comes_again_counts_once() -> None:
    problems = Problems()
    for line, kind in [("a: gone", "gone"), ("b: gone", "gone"), ("a: gone", "gone"), ("other\nline", "")]:
        problems.add(line, kind)
    assert problems.lines() == ["a: gone (and 1 more like it)", "other line"]


class Pages:
    """The tags of MLflow's experiment and of the study's run."""

    def __init__(self) -> None:
        self.experiment: dict[str, str] = {}
        self.run: dict[str, str] = {}

    def get_experiment(self, _: str) -> Any:
        return SimpleNamespace(tags=dict(self.experiment))

    def get_run(self, _: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(tags=dict(self.run)))

    def set_experiment_tag(self, _: str, name: str, value: str) -> None:
        self.experiment[name] = value

    def set_tag(self, _: str, name: str, value: str) -> None:
        self.run[name] = value


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def writer(pages: Pages, tmp_path: Path) -> MlflowWriter:
    made = MlflowWriter("sqlite:///x.db", "s", "r", "r-1", lambda uri: (pages, None), Problems(), tmp_path)
    made._study.client, made._study.experiment_id = pages, "7"
    made.runs.update({"": StoredRun("p0", "RUNNING", 0, {}), "0016": StoredRun("c16", "RUNNING", 0, {})})
    return made


def note(text: str, on: str = "run", first: bool = False) -> dict[str, Any]:
    return {"op": "note", "key": "", "text": text, "on": on, "first": first, "t": 1}


def test_notes_get_the_ids_of_their_links(pages: Pages, writer: MlflowWriter) -> None:
    text = "#/experiments/$(experiment)/runs/$(parent) $(run:0016) $(run:none) $(other) $5"
    writer.send([note(text, "experiment"), note(text)])
    assert pages.experiment[NOTE] == pages.run[NOTE] == "#/experiments/7/runs/p0 c16 p0 $(other) $5"


@pytest.mark.parametrize("on", ["experiment", "run"])
def test_a_users_own_note_stays(pages: Pages, writer: MlflowWriter, on: str) -> None:
    tags = getattr(pages, on)
    writer.send([note(signed("begun"), on, first=True)])
    assert tags[NOTE].startswith("begun\n")
    writer.send([note(signed("answer"), on), note(signed("begun"), on, first=True)])
    assert tags[NOTE].startswith("answer\n")
    tags[NOTE] = tags[NOTE].replace(CLOSING, "") + "my own words"
    mine = tags[NOTE]
    writer.send([note(signed("another answer"), on)])
    assert tags[NOTE] == mine


def test_tags_of_the_experiment(pages: Pages, writer: MlflowWriter) -> None:
    event = {"op": "experiment_tags", "key": "", "experiment_tags": {"claim": "supported"}, "t": 1}
    writer.send([event])
    assert (pages.experiment, pages.run) == ({"claim": "supported"}, {})


def test_a_view_is_a_tag_of_the_experiment(pages: Pages, writer: MlflowWriter) -> None:
    view = {"searchFilter": "tags.`mlflow.parentRunId` = '$(parent)'"}
    writer.send([{"op": "view", "key": "", "name": "search", "view": view, "title": "one", "t": 5}])
    stored = json.loads(pages.experiment["mlflow.sharedViewState.search-p0"])
    assert (stored["name"], stored["createdAt"]) == ("search: one", 5)
    packed = base64.b64decode(stored["state"].removeprefix("deflate;"))
    assert json.loads(zlib.decompress(packed)) == {"searchFilter": "tags.`mlflow.parentRunId` = 'p0'"}
    assert writer.views == {"search"}


def test_a_view_too_long_for_mlflow_is_left_out_and_said(pages: Pages, writer: MlflowWriter) -> None:
    view = {"columns": [secrets.token_hex(16) for _ in range(1000)]}
    writer.send([{"op": "view", "key": "", "name": "search", "view": view, "title": "one", "t": 5}])
    assert pages.experiment == {}
    assert writer.views == set()
