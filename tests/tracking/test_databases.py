"""A real PostgreSQL as MLflow's store: it is restarted in mid-run, and it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking import postgresql
from tests.tracking.stores import feed, runs_of, steps, tracker_for
from tuner.base.errors import UsageError
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
