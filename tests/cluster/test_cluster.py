"""The life of a cluster in one story: each test begins where the one before it ended."""

import os
import re
import signal
import subprocess
import time

import pytest

from tests.cluster.conftest import ROOT, Cluster, wait_until
from tests.cluster.probes import SCAN

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1200)]

STUDY = ["--study", "aoe_sigma", "--trials", "6", "--set", "pretrain.epochs=5", "--stages", "search,report"]
STUDY += ["--scheduler", "none", "--max-epochs", "40"]  # a trial lasts long enough for what befalls it
TRIALS = 12  # six of the search, six of the tuned baseline
CHAOS, DARK = "chaos", "dark"  # names of runs


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    def state() -> tuple[dict[str, int], dict[str, set[int]]]:
        raylets = {
            name: {
                pid
                for pid, command in cluster.machines.processes_of(name).items()
                if "raylet/raylet" in command
            }
            for name in cluster.machines.names
        }
        return cluster.services(), raylets

    before = state()
    assert all(len(pids) == 1 for pids in before[1].values())
    assert "already up to date, skipping" in cluster.up("--no-restart")
    assert state() == before


def test_nothing_answers_without_token_or_password(cluster: Cluster) -> None:
    """Another host tries every port of the head, and the head's user tries the services on loopback."""
    listening = cluster.machines.host("h1", "ss", "-Hltn")
    ports = sorted({int(line.split()[3].rpartition(":")[2]) for line in listening.splitlines()} - {22})
    assert {6379, 8265, 5000, 5433} <= set(ports)
    found = cluster.machines.host(
        "h2", "python", "-c", SCAN, cluster.machines.addresses["h1"], *map(str, ports)
    )
    answers = dict(line.split(" ", 1) for line in found.splitlines() if re.match(r"\d+ ", line))
    for port in (8265, 5000, 5433):
        assert answers[str(port)] == "closed", found
    for port in ports:  # what answers is refused for its token, or shows numbers for Prometheus
        assert answers[str(port)] in ("closed", "401", "metrics", "no HTTP"), (port, found)
    assert "gcs without token: AuthenticationError" in found
    assert "gcs with another token: AuthenticationError" in found
    assert "gcs with the token: answered" in found  # the scan itself works
    loopback = cluster.machines.host("h1", "python", "-c", SCAN, "127.0.0.1", "8265", "5000", "5433")
    assert "jobs 401" in loopback
    assert "mlflow 401" in loopback
    assert "mlflow by another name 403" in loopback
    assert "postgresql without password: OperationalError" in loopback


def test_secrets_are_where_they_belong(cluster: Cluster) -> None:
    home = cluster.machines.home
    password = (home / ".cluster/settings/pgpass").read_text().strip().rpartition(":")[2]
    login = (home / ".cluster/settings/mlflow_credentials").read_text().rpartition("= ")[2].strip()
    token = (home / ".ray" / "auth_token").read_text().strip()
    pattern = "|".join((password, login, token))
    for name in cluster.machines.names:
        disk = cluster.machines.folder / "disks" / name
        found = subprocess.run(
            ["grep", "-rlIE", pattern, str(disk)], capture_output=True, text=True
        ).stdout.splitlines()
        expected = {".ray/auth_token", ".config/robust-tuner/pgpass", ".mlflow/credentials"}
        expected |= {".config/robust-tuner/mlflow_credentials", "services/basic_auth.ini"}
        assert {path.partition("/home/ray/")[2] for path in found} <= expected
        assert all(os.stat(path).st_mode & 0o077 == 0 for path in found)
        commands = " ".join(cluster.machines.processes_of(name).values())
        assert not re.search(pattern, commands)
    assert not re.search(pattern, "".join(path.read_text() for path in cluster.machines.folder.glob("*.log")))


@pytest.mark.long
def test_the_databases_are_saved_before_the_end(cluster: Cluster) -> None:
    cluster.run("ray", "exec", "onprem.yaml", "~/project/clusters/services.sh backup ~/all.sql")
    cluster.run("ray", "rsync-down", "onprem.yaml", "~/all.sql", "all.sql")
    saved = (cluster.machines.home / "all.sql").read_text()
    for database in ("studies", "mlflow", "mlflow_auth"):
        assert re.search(rf"CREATE DATABASE {database}\b", saved), saved[:500]
    assert "SCRAM-SHA-256" not in saved  # no password, not even its hash


@pytest.mark.long
def test_a_study_spreads_and_outlives_lost_nodes_and_a_closed_laptop(cluster: Cluster) -> None:
    cluster.open_tunnel()
    follower = cluster.start(*cluster.launch(*STUDY, "--run-name", CHAOS, "--submit"), log="chaos.log")
    wait_until(
        lambda: all(cluster.training(name) for name in cluster.machines.names),
        240,
        "trials on every node",
    )
    wait_until(lambda: cluster.checkpoints(CHAOS) >= 2, 120, "checkpoints of the second epoch", pause=0.1)

    cluster.machines.link("h3", "down")
    wait_until(lambda: "worker lost" in cluster.logs(CHAOS), 120, "h3's trials are missed")
    cluster.machines.link("h3", "up")
    lost = cluster.logs(CHAOS).count("worker lost")

    wait_until(lambda: cluster.training("h2"), 60, "trials on h2")
    for pid, command in cluster.machines.processes_of("h2").items():
        if "ray" in command and "sshd" not in command and "machine.py" not in command:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.logs(CHAOS).count("worker lost") > lost, 120, "h2's trials are missed")

    interrupt(cluster)
    assert follower.wait(timeout=30) == 130
    assert f"python {ROOT}/launch.py --submit --resume {CHAOS}" in cluster.log("chaos.log")
    follower = cluster.start(*cluster.launch("--submit", "--resume", CHAOS), log="again.log")
    assert follower.wait(timeout=500) == 0, cluster.log("again.log")
    assert "following that" in cluster.log("again.log")
    out = cluster.check_nothing_lost(CHAOS, TRIALS)
    assert re.search(r"attempts .*[23]", out), out
    cluster.close_tunnel()


def interrupt(cluster: Cluster) -> None:
    """Send Ctrl-C to launch.py itself: nsenter, through which it runs, does not pass it on."""
    for pid, command in cluster.machines.processes_of("operator").items():
        if "launch.py" in command and "--submit" in command:
            os.kill(pid, signal.SIGINT)


@pytest.mark.long
def test_the_head_loses_power_and_the_study_is_resumed(cluster: Cluster) -> None:
    # the autoscaler starts the lost hosts' Ray again; on a machine this busy it may give one up
    wait_until(lambda: cluster.nodes() >= 2, 240, "two nodes alive", pause=2)
    cluster.open_tunnel()
    follower = cluster.start(*cluster.launch(*STUDY, "--run-name", DARK, "--submit"), log="dark.log")
    wait_until(lambda: cluster.checkpoints(DARK) >= 3, 300, "checkpoints of the third epoch")
    cluster.machines.crash("h1")
    time.sleep(5)
    cluster.machines.boot("h1")
    cluster.up()
    cluster.wait_for_nodes(3)
    cluster.close_tunnel()
    cluster.open_tunnel()
    assert follower.wait(timeout=60) == 1
    assert "continue the run with --resume" in cluster.log("dark.log")
    out = cluster.run(
        *cluster.launch("--study", "aoe_sigma", "--submit", "--resume", "--stages", "search,report"),
        timeout=600,
    )
    assert "== report" in out
    cluster.check_nothing_lost(DARK, TRIALS)
    cluster.close_tunnel()


@pytest.mark.long
def test_ray_submit_runs_the_script(cluster: Cluster) -> None:
    words = ["--resume", DARK, "--stages", "report"]
    out = cluster.run("ray", "submit", "onprem.yaml", str(ROOT / "launch.py"), "--", *words)
    assert "== report" in out
    assert "winner" in out


def test_down_leaves_no_ray_behind(cluster: Cluster) -> None:
    cluster.run("python", "-m", "tuner.commands.cluster_setup", "stop", "onprem.yaml")
    cluster.run("ray", "down", "-y", "onprem.yaml")

    def left() -> list[str]:
        return [
            command
            for name in cluster.machines.names
            for command in cluster.machines.processes_of(name).values()
            if command and "machine.py" not in command and not command.startswith("sshd")
        ]

    wait_until(lambda: not left(), 60, "every process of the cluster gone", pause=2)
