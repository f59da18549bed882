"""One MLflow run per trial for life, in a real SQLite store: states, resume, refusals, kills."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.tracking.servers import environment
from tests.tracking.stores import copy_empty_store, feed, history, runs_of, steps, tracker_for
from tuner.tracking.notes import NOTE, signed
from tuner.tracking.tracker import Tracker

pytestmark = pytest.mark.timeout(240)

STEPS = 4


def test_states_tags_params_and_artifacts(uri: str, tmp_path: Path) -> None:
    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    for number, state in enumerate(["COMPLETE", "PRUNED", "FAIL"]):
        key = f"t{number}"
        tracker.child(
            key, name=f"trial {number}", params={"lr": 0.5, "long": "x" * 7000}, tags={"trial": str(number)}
        )
        feed(tracker, key, 1, 1 + STEPS)
        tracker.final(key, {"test/accuracy": 0.25})
        tracker.text(key, '{"lr": 0.5}', "configuration.json")
        tracker.close_child(key, state, "NaN from http://me:secret@host/" if state == "FAIL" else "")
    assert tracker.flush(60) == 0
    assert tracker.close("FINISHED") == 0
    assert tracker.problems == []
    assert tracker.errors == 0

    (parent,), children = runs_of(uri)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_id == tracker.parent_id()
    assert parent.data.tags["run"] == "aoe-1"
    assert parent.data.tags["study"] == "aoe"
    assert [children[f"t{k}"].info.status for k in range(3)] == ["FINISHED", "FINISHED", "FAILED"]
    assert [children[f"t{k}"].data.tags["state"] for k in range(3)] == ["COMPLETE", "PRUNED", "FAIL"]
    failed = children["t2"]
    assert failed.info.run_id == tracker.child_id("t2")
    assert failed.info.run_name == "trial 2"
    assert failed.data.tags["state"] == "FAIL"
    assert failed.data.tags["reason"] == "NaN from http://***@host/"
    assert failed.data.params["lr"] == "0.5"
    assert len(failed.data.params["long"]) == 6000
    assert failed.data.params["long"].endswith("[cut, 7000 characters]")
    assert history(uri, failed, "val/accuracy") == [(step, step / 10) for step in range(1, 1 + STEPS)]
    assert history(uri, failed, "test/accuracy") == [(STEPS, 0.25)]
    # The artifacts lie beside the database, whatever the working folder is.
    assert (
        tmp_path / "mlruns" / failed.info.run_id / "artifacts" / "configuration.json"
    ).read_text() == '{"lr": 0.5}'


def test_resume_continues_the_same_runs_even_without_spool(uri: str, tmp_path: Path) -> None:
    first = tracker_for(uri, tmp_path / "spool")
    first.start()
    first.child("t0", name="trial 0", params={"lr": 0.1})
    feed(first, "t0", 1, 4)
    first.final("t0", {"test/accuracy": 0.5})
    first.close_child("t0", "FAIL", "preempted")
    assert first.close("KILLED") == 0
    assert runs_of(uri)[0][0].info.status == "KILLED"

    (tmp_path / "spool").unlink()
    second = tracker_for(uri, tmp_path / "spool")
    second.start()
    second.child("t0", name="trial 0", params={"lr": 0.1})
    assert second.flush(60) == 0
    (parent,), children = runs_of(uri)
    assert parent.info.status == "RUNNING"
    assert children["t0"].info.status == "FAILED"  # declared again is not yet continued

    feed(second, "t0", 2, 6)  # rolled back: steps 2 and 3 come again
    second.final("t0", {"test/accuracy": 0.75})
    assert second.flush(60) == 0
    assert runs_of(uri)[1]["t0"].info.status == "RUNNING"
    second.close_child("t0", "COMPLETE")
    assert second.close("FINISHED") == 0
    assert (second.parent_id(), second.child_id("t0")) == (first.parent_id(), first.child_id("t0"))

    (tmp_path / "spool.ack").unlink()  # as if killed between the last request and its mark
    third = tracker_for(uri, tmp_path / "spool")
    third.start()
    assert third.close("FINISHED") == 0
    (parent,), children = runs_of(uri)
    assert children["t0"].info.status == "FINISHED"
    assert history(uri, children["t0"], "val/accuracy") == [(step, step / 10) for step in range(1, 6)]
    assert history(uri, children["t0"], "test/accuracy") == [(3, 0.5)]


def test_what_mlflow_refuses_does_not_hold_up_the_rest(uri: str, tmp_path: Path) -> None:
    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1, "bad,name": 1})
    tracker.child("t0", name="trial 0", params={"lr": 0.2, "wd": 0.3})
    for step in range(1, 4):
        tracker.metrics("t0", step, {"a,b": 1.0, "ok": 1.0, "huge": float("inf"), "nan": float("nan")})
    tracker.metrics("t0", 4, {"words": "many"})  # type: ignore[dict-item]
    tracker.artifact("t0", tmp_path / "absent.png")
    tracker.text("t0", "x", "../../escape")
    tracker.close_child("t0", "done")
    tracker.close_child("t0", "COMPLETE")
    assert tracker.close("FINISHED") == 0
    (_,), children = runs_of(uri)
    child = children["t0"]
    assert child.info.status == "FINISHED"
    assert child.data.params == {"lr": "0.1", "wd": "0.3"}
    assert [step for step, _ in history(uri, child, "ok")] == [1, 2, 3]
    assert [str(value) for _, value in history(uri, child, "nan")] == ["nan"] * 3
    assert "huge" not in child.data.metrics
    for word in ("bad,name", "lr", "a,b", "huge is inf", "many", "absent.png", "escape", "'done'"):
        assert any(word in line for line in tracker.problems), word
    assert all("\n" not in line for line in tracker.problems)


def test_run_deleted_by_hand_goes_on_and_lost_store_is_rebuilt(uri: str, tmp_path: Path) -> None:
    tracker = tracker_for(uri, tmp_path / "spool")
    tracker.start()
    feed(tracker, "t0", 1, 3)
    assert tracker.flush(60) == 0
    MlflowClient(uri).delete_run(tracker.child_id("t0") or "")
    feed(tracker, "t0", 3, 5)
    assert tracker.flush(60) == 0
    assert tracker.close("KILLED") == 0
    assert history(uri, runs_of(uri)[1]["t0"], "loss") == [(n, 1 / n) for n in range(1, 5)]
    assert tracker.problems == [f"t0: MLflow run {tracker.child_id('t0')} was in the trash; it is restored"]

    other = tmp_path / "other"
    other.mkdir()
    copy_empty_store(other)
    moved = tracker_for(f"sqlite:///{other}/mlflow.db", tmp_path / "spool")
    moved.start()
    assert moved.close("FINISHED") == 0
    rebuilt = runs_of(f"sqlite:///{other}/mlflow.db")[1]["t0"]
    assert steps(f"sqlite:///{other}/mlflow.db", rebuilt) == [1, 2, 3, 4]


def finished(uri: str, spool: Path, **which: str) -> Tracker:
    """Write a study of one trial with three epochs; each process of a run has a spool, which may be lost."""
    tracker = tracker_for(uri, spool, **which)
    tracker.start()
    tracker.child("t0", name="trial 0")
    feed(tracker, "t0", 1, 4)
    tracker.close_child("t0", "COMPLETE")
    assert tracker.close("FINISHED", 60) == 0
    return tracker


def test_two_runs_of_one_name_are_two(uri: str, tmp_path: Path) -> None:
    """Of two people on one store, or begun anew after the first one was deleted."""
    ids = ("aoe-1-abc", "aoe-1-def")
    first, second = (finished(uri, tmp_path / run_id, run_id=run_id) for run_id in ids)
    again = finished(uri, tmp_path / "third", run_id=ids[0], run="renamed")
    assert again.parent_id() == first.parent_id() != second.parent_id()
    assert again.child_id("t0") == first.child_id("t0") != second.child_id("t0")
    client = MlflowClient(uri)
    tags = [client.get_run(t.parent_id() or "").data.tags for t in (first, second)]
    assert [(t["run"], t["run_id"]) for t in tags] == [("renamed", ids[0]), ("aoe-1", ids[1])]
    for tracker in (first, second):
        assert steps(uri, client.get_run(tracker.child_id("t0") or "")) == [1, 2, 3]
        assert tracker.problems == []


def test_the_run_of_an_earlier_version_goes_on(uri: str, tmp_path: Path) -> None:
    """It is tagged with its name alone; a run of that name with an id is another."""
    client = MlflowClient(uri)
    old = client.create_run(client.create_experiment("aoe"), tags={"run": "aoe-1"}).info.run_id
    new = finished(uri, tmp_path / "new")
    assert new.parent_id() != old
    for spool in ("a", "b"):
        assert finished(uri, tmp_path / spool, run_id="aoe-1").parent_id() == old
    assert client.get_run(old).data.tags["run_id"] == "aoe-1"


@pytest.mark.parametrize("what", ["study", "trial", "both", "experiment"])
def test_what_is_in_the_trash_is_restored_and_said(uri: str, tmp_path: Path, what: str) -> None:
    first = finished(uri, tmp_path / "spool")
    parent, child = first.parent_id() or "", first.child_id("t0") or ""
    client = MlflowClient(uri)
    if what == "experiment":
        client.delete_experiment(first.experiment_id() or "")
    for run in {"study": [parent], "trial": [child], "both": [child, parent]}.get(what, []):
        client.delete_run(run)
    again = finished(uri, tmp_path / "spool")
    assert (again.parent_id(), again.child_id("t0")) == (parent, child)
    (_,), children = runs_of(uri)  # active ones
    assert steps(uri, children["t0"]) == [1, 2, 3]
    restored = "MLflow run {} was in the trash; it is restored"
    said = {
        "study": [f"study: {restored.format(parent)}"],
        "trial": [f"t0: {restored.format(child)}"],
        "both": [f"study: {restored.format(parent)}", f"t0: {restored.format(child)}"],
        "experiment": ["study: experiment aoe was in MLflow's trash; it is restored with all its runs"],
    }
    assert again.problems == said[what]


def test_a_duplicate_in_the_trash_stays_there(uri: str, tmp_path: Path) -> None:
    first = finished(uri, tmp_path / "spool")
    client = MlflowClient(uri)
    tags = {"run": "aoe-1", "run_id": "aoe-1-abc"}
    duplicate = client.create_run(first.experiment_id() or "", tags=tags).info.run_id
    client.delete_run(duplicate)
    again = finished(uri, tmp_path / "spool")
    assert (again.parent_id(), again.problems) == (first.parent_id(), [])
    assert client.get_run(duplicate).info.lifecycle_stage == "deleted"


def test_trials_get_the_status_of_their_stored_states(uri: str, tmp_path: Path) -> None:
    """A process that was killed while it had a trial's run open left it RUNNING."""
    first = finished(uri, tmp_path / "spool")
    client = MlflowClient(uri)
    run = first.child_id("t0") or ""
    ended = client.get_run(run).info.end_time
    client.update_run(run, status="RUNNING")
    again = tracker_for(uri, tmp_path / "spool")
    again.start()
    again.settle({"t0": "COMPLETE", "t9": "FAIL"})
    assert again.close("FINISHED", 60) == 0
    info = client.get_run(run).info
    assert (info.status, info.end_time) == ("FINISHED", ended)
    assert again.child_id("t9") is None


def test_views_and_notes_of_a_store_that_a_resume_reads_again(uri: str, tmp_path: Path) -> None:
    """Delivered twice they are the same; what a user has written or chosen in between stays."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("aoe", tags={"mine": "1"})

    def launch() -> Tracker:
        tracker = tracker_for(uri, tmp_path / "spool")
        tracker.start()
        tracker.view("search", {"searchFilter": "tags.`mlflow.parentRunId` = '$(parent)'"}, "aoe-1")
        for on in ("experiment", "run"):
            tracker.note(signed("Begun."), on=on, first=True)
        tracker.child("0007", name="t7")
        for on in ("experiment", "run"):
            tracker.note(signed("[winner](<#/experiments/$(experiment)/runs/$(run:0007)>)"), on=on)
        assert tracker.close("FINISHED", 60) == 0
        assert tracker.problems == []
        assert tracker.views == {"search"}
        return tracker

    tracker = launch()
    answer = signed(f"[winner](<#/experiments/{experiment}/runs/{tracker.child_id('0007')}>)")
    tags = client.get_experiment(experiment).tags
    assert set(tags) == {
        "mine",
        NOTE,
        "mlflow.experimentKind",
        f"mlflow.sharedViewState.search-{tracker.parent_id()}",
    }
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags[NOTE] == answer
    assert client.get_run(tracker.parent_id() or "").data.tags[NOTE] == answer
    client.set_experiment_tag(experiment, NOTE, "my own words")
    client.set_experiment_tag(experiment, "mlflow.experimentKind", "genai_development")
    (tmp_path / "spool.ack").unlink()
    launch()
    tags = client.get_experiment(experiment).tags
    assert (tags[NOTE], tags["mlflow.experimentKind"]) == ("my own words", "genai_development")
    assert client.get_run(tracker.parent_id() or "").data.tags[NOTE] == answer


WRITER = """
import sys
import time
from pathlib import Path
from tuner.tracking.tracker import Tracker

uri, spool, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
tracker = Tracker(uri, "aoe", "aoe-1", "aoe-1", spool, {}, interval_s=0.01)
tracker.start()
for step in range(1, steps + 1):
    time.sleep(0.02)
    for key in range(6):
        if step == 1:
            tracker.child(f"t{key}", name=f"trial {key}", params={"lr": key})
        tracker.metrics(f"t{key}", step, {f"m{i}": float(step) for i in range(10)})
for key in range(6):
    tracker.close_child(f"t{key}", "COMPLETE")
raise SystemExit(tracker.close("FINISHED", 100))
"""


@pytest.mark.slow
def test_killed_writers_double_nothing(uri: str, tmp_path: Path) -> None:
    """Every attempt writes the same steps again, as a trial without a checkpoint would."""
    command = [sys.executable, "-c", WRITER, uri, str(tmp_path / "spool"), "30"]
    mark = tmp_path / "spool.ack"
    interrupted = 0
    for delay_s in (0, 0.01, 0.03, 0.07, 0.15, 0.31):  # after the first delivery of each attempt
        before = mark.stat().st_mtime_ns if mark.exists() else 0
        writer = subprocess.Popen(command, env=environment())
        while writer.poll() is None and not (mark.exists() and mark.stat().st_mtime_ns > before):
            time.sleep(0.002)
        time.sleep(delay_s)
        writer.kill()
        interrupted += writer.wait() != 0
    assert interrupted >= 4
    assert subprocess.run(command, env=environment(), timeout=120, check=False).returncode == 0
    (parent,), children = runs_of(uri)
    assert parent.info.status == "FINISHED"
    assert sorted(children) == [f"t{key}" for key in range(6)]
    for run in children.values():
        assert run.info.status == "FINISHED"
        for name in ("m0", "m9"):
            assert history(uri, run, name) == [(step, float(step)) for step in range(1, 31)]


def test_import_is_light() -> None:
    probe = (
        "import sys, tuner.tracking.tracker; print({'mlflow', 'torch', 'ray', 'numpy'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", probe], env=environment(), capture_output=True, check=True)
    assert shown.stdout.strip() == b"set()"
