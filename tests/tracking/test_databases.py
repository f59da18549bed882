"""A real PostgreSQL as MLflow's store (it is restarted in mid-run, and it refuses) and as the study's storage."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from optuna.study import StudyDirection

from tests.tracking import postgresql
from tests.tracking.stores import feed, runs_of, steps, tracker_for
from tuner.base.errors import UsageError
from tuner.store.database import open_storage
from tuner.store.trial_reader import read_with
from tuner.tracking.connection import check_access

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing()),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgresql.Cluster]:
    found = postgresql.create()
    try:
        found.start()
        yield found
    finally:
        postgresql.remove(found)


def test_restarted_in_mid_run(
    cluster: postgresql.Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert check_access(cluster.uri(), "aoe") == ""
    tracker = tracker_for(cluster.uri(), tmp_path / "spool")
    tracker.start()
    tracker.child("t0", name="trial 0", params={"lr": 0.1})
    feed(tracker, "t0", 1, 20)
    assert tracker.flush(60) == 0
    feed(tracker, "t0", 20, 40)
    cluster.stop()
    feed(tracker, "t0", 40, 60)
    assert tracker.flush(60) > 0
    assert "does not answer" in check_access(cluster.uri(), "aoe")
    cluster.start()
    feed(tracker, "t0", 60, 80)
    tracker.close_child("t0", "COMPLETE")
    assert tracker.close("FINISHED", 60) == 0
    assert tracker.problems == []
    (parent,), children = runs_of(cluster.uri())
    assert (parent.info.status, children["t0"].info.status) == ("FINISHED", "FINISHED")
    assert steps(cluster.uri(), children["t0"]) == list(range(1, 80))
    for text in ((tmp_path / "spool").read_text(), caplog.text, tracker.last_error):
        assert postgresql.PASSWORD not in text


def test_wrong_password_is_said_at_once(cluster: postgresql.Cluster) -> None:
    with pytest.raises(UsageError, match=r"refuses.*password authentication failed") as caught:
        check_access(cluster.uri("not-the-password"), "aoe")
    assert "not-the-password" not in str(caught.value)
    assert "\n" not in str(caught.value)
    absent = cluster.uri().removesuffix("postgres") + "nowhere"
    with pytest.raises(UsageError, match='database "nowhere" does not exist'):
        check_access(absent, "aoe")


def test_a_storage_is_read_without_a_write(cluster: postgresql.Cluster) -> None:
    import psycopg2

    with closing(psycopg2.connect(cluster.uri())) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE studies")
    url = cluster.uri().removesuffix("postgres") + "studies"
    assert read_with(url, lambda storage: storage.get_all_studies()) is None  # nobody has written to it
    storage = open_storage(url)
    storage.create_new_study([StudyDirection.MAXIMIZE], "one")
    found = read_with(url, lambda seen: [study.study_name for study in seen.get_all_studies()])
    assert found == ["one"]
    with pytest.raises(UsageError, match="cannot execute INSERT in a read-only transaction"):
        read_with(url, lambda seen: seen.create_new_study([StudyDirection.MAXIMIZE], "two"))
    storage.engine.dispose()
