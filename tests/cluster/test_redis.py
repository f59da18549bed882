"""Ray's state in a Redis outside, the driver on a worker: the head loses power and the study does not stop."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Cluster, running, wait_until
from tests.cluster.machines import OPERATOR, Machines

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1200)]

PORT, PASSWORD, RUN, ASKED, TRIALS = 6380, "not-the-real-one", "headless", "asked", 12
STUDY = ["--study", "aoe_sigma", "--trials", "6", "--set", "pretrain.epochs=5", "--stages", "search,report"]
STUDY += ["--scheduler", "none", "--max-epochs", "60", "--submit"]


@pytest.fixture(scope="module")
def redis(machines: Machines) -> Iterator[str]:
    """A server on a machine that is none of the cluster's; yields HOST:PORT."""
    if subprocess.run(["which", "redis-server"], capture_output=True).returncode:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    words = ["redis-server", "--bind", OPERATOR, "--port", str(PORT), "--requirepass", PASSWORD, "--save", ""]
    server = subprocess.Popen(machines.at_operator(*words), stdout=subprocess.DEVNULL)
    yield f"{OPERATOR}:{PORT}"
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def cluster(machines: Machines, redis: str) -> Iterator[Cluster]:
    """Databases on the head's own address: a driver elsewhere reaches them."""
    settings = {
        "TUNER_REDIS": redis,
        "TUNER_REDIS_PASSWORD": PASSWORD,
        "TUNER_SERVICES": machines.addresses["h1"],
    }
    with running(machines, settings) as found:
        found.wait_for_nodes(3)
        yield found


def driver(cluster: Cluster, host: str) -> list[int]:
    return [pid for pid, line in cluster.machines.processes_of(host).items() if "python launch.py" in line]


def submitted(cluster: Cluster, run: str) -> subprocess.Popen[bytes]:
    """Submit a study whose driver is to be on h2; what it prints goes to RUN.log."""
    words = cluster.launch(*STUDY, "--run-name", run, "--driver-on", cluster.machines.addresses["h2"])
    return cluster.start(*words, log=f"{run}.log")


def test_a_run_is_asked_after_and_ended_from_the_laptop(cluster: Cluster) -> None:
    """The questions are answered on the head, which knows of the driver by database and run folder alone."""

    def ask(*words: str) -> str:
        return cluster.run(*cluster.launch("--submit", *words))

    cluster.open_tunnel()
    follower = submitted(cluster, ASKED)
    wait_until(lambda: cluster.checkpoints(ASKED) >= 2, 300, "checkpoints of the second epoch")
    told = ask("--status", ASKED)
    assert "running" in told, told
    why = ask("--why", ASKED, "0")
    assert "running" in why.lower(), why
    told = ask("--stop", ASKED)
    assert f"run {ASKED} is saved" in told, told
    assert follower.wait(timeout=120) != 0
    assert f"--resume {ASKED}" in ask("--status", ASKED)
    wait_until(lambda: not any(map(cluster.training, cluster.machines.names)), 60, "no trial trains")
    cluster.close_tunnel()


def test_a_study_goes_on_without_its_head(cluster: Cluster) -> None:
    cluster.open_tunnel()
    follower = submitted(cluster, RUN)
    wait_until(
        lambda: cluster.training("h2") and cluster.checkpoints(RUN) >= 3, 300, "trials on h2, a third epoch"
    )
    before = driver(cluster, "h2")
    assert before
    assert not driver(cluster, "h1")
    working = set(cluster.training("h2"))

    cluster.machines.crash("h1")
    time.sleep(10)
    assert driver(cluster, "h2") == before
    cluster.machines.boot("h1")
    cluster.up()
    assert driver(cluster, "h2") == before
    assert working & set(cluster.training("h2"))  # the same processes, not new ones
    cluster.close_tunnel()
    cluster.open_tunnel()
    assert follower.wait(timeout=600) == 0, cluster.log("headless.log")
    assert "out of reach" in cluster.log("headless.log")
    assert "== report" in cluster.log("headless.log")
    cluster.check_nothing_lost(RUN, TRIALS)
    cluster.close_tunnel()
