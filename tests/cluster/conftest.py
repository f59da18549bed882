"""A real `ray up` on isolated machines of this one: `cluster` is up when a test of it begins."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.cluster.machines import OPERATOR, USER, Machines, why_not
from tests.cluster.probes import CHECK_TRIALS, COUNT_CHECKPOINTS

ROOT = Path(__file__).resolve().parents[2]
S3 = f"http://{OPERATOR}:5555"
BUCKET = "robust-tuner-test"
TRIAL_PROCESS = "ray::ResourceTrainable"  # what Tune makes of a trainable with resources
AWS = {
    "AWS_ENDPOINT_URL": S3,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
COUNT_NODES = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("alive", sum(node["Alive"] for node in ray.nodes()))
"""
MAKE_BUCKET = f"""
import boto3
boto3.client("s3").create_bucket(Bucket={BUCKET!r})
"""


class Cluster:
    """The operator's end of a cluster: the commands of docs/cluster.md, run as written.

    Attributes:
        environment: variables of every command at the operator.
        machines: the operator, the head h1 and the workers h2, h3.
    """

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.head, *self.workers = machines.names
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_UP_enable_autoscaler_v2": "0",
            "PYTHONUNBUFFERED": "1",
            "GIT_CONFIG_COUNT": "1",  # root reads a checkout that may belong to another user
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }

    def command(self, *words: str) -> list[str]:
        return self.machines.at_operator(*words, env=self.environment)

    def run(self, *words: str, timeout: float = 300, check: bool = True) -> str:
        """Run a command at the operator and return what it prints."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}\n{done.stdout[-6000:]}")
        return done.stdout

    def start(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        """Start a command at the operator; what it prints goes to `folder/log`."""
        with open(self.machines.folder / log, "ab") as file:
            return subprocess.Popen(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # a shell's background job ignores Ctrl-C, and so would what it starts
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def log(self, name: str) -> str:
        return (self.machines.folder / name).read_text(errors="replace")

    def launch(self, *arguments: str) -> list[str]:
        return ["python", str(ROOT / "launch.py"), *arguments]

    def prepare(self, storage: str, more: Mapping[str, str], minimum: int | None = None) -> None:
        """Write .cluster/ and onprem.yaml.

        Args:
            more: variables for every node.
            minimum: workers that are kept; the others start on demand and end when idle for half a minute.
        """
        settings = [
            f"{name}={value}" for name, value in (AWS | {"AUTOSCALER_UPDATE_INTERVAL_S": "1"} | more).items()
        ]
        words = [word for setting in settings for word in ("--set", setting)]
        self.run("python", "-m", "tuner.commands.cluster_setup", "prepare", "--storage", storage, *words)
        addresses = [self.machines.addresses[name] for name in self.machines.names]
        derived = self.run(
            *("python", "-m", "tuner.commands.cluster_setup", "onprem", "--head", addresses[0]),
            *("--workers", ",".join(addresses[1:]), "--user", USER, "--key", str(self.machines.key)),
        )
        if minimum is not None:
            keys = {"min_workers": minimum, "idle_timeout_minutes": 0.5}
            derived = yaml.safe_dump(yaml.safe_load(derived) | keys, sort_keys=False, width=200)
        (self.machines.home / "onprem.yaml").write_text(derived)

    def logs(self, run: str, host: str = "h1") -> str:
        """Return the logs of a run's trials, which the driver keeps on its host."""
        return self.machines.host(host, "sh", "-c", f"cat ~/runs/{run}/logs/*.log 2>/dev/null || true")

    def checkpoints(self, run: str) -> int:
        """Return the largest epoch of a checkpoint that a run has on S3, 0 if there is none."""
        return int(self.run("python", "-c", COUNT_CHECKPOINTS, BUCKET, f"runs/{run}/checkpoints/"))

    def training(self, name: str) -> list[int]:
        """Return the pids of a host's processes that train a trial."""
        return [pid for pid, command in self.machines.processes_of(name).items() if TRIAL_PROCESS in command]

    def check_nothing_lost(self, run: str, trials: int) -> str:
        """Every trial ended well, and MLflow has each of its epochs exactly once."""
        out = self.machines.host("h1", "python", "-c", CHECK_TRIALS, run, str(trials), timeout=120)
        assert "nothing lost" in out, out
        return out

    def up(self, *options: str) -> str:
        return self.run("ray", "up", "-y", "--no-config-cache", *options, "onprem.yaml", timeout=400)

    def nodes(self) -> int:
        """Return the number of nodes alive, 0 if the head does not answer."""
        try:
            out = self.machines.host(self.head, "python", "-c", COUNT_NODES)
        except (AssertionError, subprocess.TimeoutExpired):
            return 0
        return int(out.rpartition("alive ")[2])

    def wait_for_nodes(self, count: int, timeout: float = 240) -> None:
        wait_until(lambda: self.nodes() == count, timeout, f"{count} nodes alive", pause=2)

    def open_tunnel(self) -> None:
        """Open the tunnel to the job server, as a user would in another terminal."""
        self.start("ray", "dashboard", "onprem.yaml", log="tunnel.log")
        probe = "import socket; socket.create_connection(('127.0.0.1', 8265), 1)"
        wait_until(
            lambda: subprocess.run(self.command("python", "-c", probe), capture_output=True).returncode == 0,
            60,
            "the tunnel to the job server",
        )

    def close_tunnel(self) -> None:
        """End the tunnel's processes by their pids: nsenter, through which they run, does not pass signals on."""
        for pid, command in self.machines.processes_of("operator").items():
            if command.startswith("ssh ") or " dashboard onprem.yaml" in command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def services(self) -> dict[str, int]:
        """Return {service: its pid on the head}."""
        read = "head -1 ~/services/postgresql/postmaster.pid; cat ~/services/mlflow.pid"
        postgresql, mlflow = self.machines.host(self.head, "bash", "-c", read).split()
        return {"postgresql": int(postgresql), "mlflow": int(mlflow)}


def wait_until(condition: Callable[[], object], timeout: float, what: str, pause: float = 0.5) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not after {timeout:.0f} s: {what}")
        time.sleep(pause)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    reason = why_not()
    for module in ("boto3", "moto", "psycopg2"):
        try:
            __import__(module)
        except ImportError:
            reason = reason or f"{module} is not installed (extra dev)"
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="machines-", dir="/var/tmp") as folder:
        made = Machines(Path(folder), 3)
        fetch_build_backend(made.shared / "wheels")
        with made:
            yield made
            keep_logs(made)


def fetch_build_backend(folder: Path) -> None:
    """The hosts have no internet, and `pip install -e` builds: they get setuptools from a folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(folder),
        "setuptools>=77",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"setuptools cannot be fetched for the hosts: {done.stderr.strip()[-200:]}")


def keep_logs(machines: Machines) -> None:
    """Copy the operator's logs to the artifacts of CI."""
    target = os.environ.get("CI_ARTIFACTS")
    if target:
        for path in machines.folder.glob("*.log"):
            (Path(target) / f"cluster-{path.name}").write_bytes(path.read_bytes())


@contextlib.contextmanager
def running(
    machines: Machines, more: Mapping[str, str] | None = None, minimum: int | None = None
) -> Iterator[Cluster]:
    """Bring the head up by `ray up`, PostgreSQL and MLflow on it, run storage on a local S3 server."""
    found = Cluster(machines)
    found.environment |= AWS
    server = found.start("python", "-m", "moto.server", "-H", OPERATOR, "-p", "5555", log="s3.log")
    try:
        wait_until(
            lambda: (
                subprocess.run(found.command("python", "-c", MAKE_BUCKET), capture_output=True).returncode
                == 0
            ),
            90,
            "the S3 server",
        )
        found.prepare(f"s3://{BUCKET}/runs", more or {}, minimum)
        (machines.folder / "up.log").write_text(found.up())
        yield found
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Cluster]:
    """Three nodes, all kept."""
    with running(machines) as found:
        found.wait_for_nodes(3)
        yield found
