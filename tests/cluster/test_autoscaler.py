"""Workers come when a study asks for them and go when nothing does."""

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Cluster, running, wait_until
from tests.cluster.machines import Machines

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1200)]

RUN, TRIALS = "growing", 12
STUDY = ["--study", "aoe_sigma", "--trials", "6", "--set", "pretrain.epochs=5", "--stages", "search,report"]
STUDY += ["--scheduler", "none", "--max-epochs", "40", "--run-name", RUN, "--submit"]


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Cluster]:
    """The head alone; two workers at most, none kept."""
    with running(machines, minimum=0) as found:
        found.wait_for_nodes(1)
        yield found


def test_it_grows_for_a_study_and_shrinks_after_it(cluster: Cluster) -> None:
    cluster.open_tunnel()
    follower = cluster.start(*cluster.launch(*STUDY), log="growing.log")
    wait_until(
        lambda: cluster.nodes() == 3, 240, "a node more for the trials that wait, and another", pause=2
    )
    wait_until(lambda: all(cluster.training(name) for name in cluster.machines.names), 120, "trials on each")
    assert follower.wait(timeout=600) == 0, cluster.log("growing.log")
    cluster.check_nothing_lost(RUN, TRIALS)
    cluster.wait_for_nodes(1, timeout=180)
    cluster.close_tunnel()
