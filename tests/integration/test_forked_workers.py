"""The processes of a Ray of one launch, and its workers, which are forked from one that has imported everything."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import Launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BEGIN = """
import os, sys, time
import psutil, ray
from ray._private.node import Node
before = Node.start_api_server, Node.start_raylet
from tuner.execution.ray_start import start_ray
start_ray(None)
assert (Node.start_api_server, Node.start_raylet) == before, "the patches outlive the start"

def below(part):
    return [p for p in psutil.Process().children(recursive=True) if part in " ".join(p.cmdline())]

@ray.remote(num_cpus=0, runtime_env={"env_vars": {"OF_THE_ACTOR": "1"}})
class Worker:
    def facts(self):
        import random, numpy, torch
        drawn = ray.ObjectRef.from_random().hex(), random.random(), numpy.random.random()
        return os.getpid(), os.getppid(), os.getpgid(0), os.environ.get("OF_THE_ACTOR"), drawn
"""
DO = """
(server,) = below("fork_server.py")
@ray.remote
def loaded():
    return "torch" in sys.modules, os.getppid()
assert ray.get(loaded.remote()) == (True, server.pid)
workers = [Worker.remote() for _ in range(3)]
facts = ray.get([worker.facts.remote() for worker in workers])
for pid, parent, group, variable, _ in facts:
    assert (parent, group, variable) == (server.pid, pid, "1"), facts
for drawn in zip(*(f[-1] for f in facts)):
    assert len(set(drawn)) == 3, f"copies of one random generator: {facts}"
print("\\n".join(" ".join(p.cmdline()) for p in below("")))
ray.kill(workers[0])
assert ray.get(workers[1].facts.remote())[0] == facts[1][0], "a worker's end took another with it"
server.kill()
after = Worker.remote()
pid, parent, _, variable, _ = ray.get(after.facts.remote())
assert parent != server.pid
assert variable == "1"
assert ray.get(workers[1].facts.remote())[0] == facts[1][0]
"""
WAIT = """
worker = Worker.remote()
print(*ray.get(worker.facts.remote())[:2], flush=True)
time.sleep(600)
"""


def script(launcher: Launcher, *parts: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "".join((BEGIN, *parts))],
        cwd=launcher.folder,
        env=launcher.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_workers_are_forked_and_nothing_runs_that_nobody_needs(launcher: Launcher) -> None:
    """No server of a dashboard that is off, no monitor, no log monitor; without the fork server, Ray's own way."""
    process = script(launcher, DO)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    commands = out.splitlines()
    for part in ("gcs_server ", "raylet/raylet ", "DashboardAgent", "RuntimeEnvAgent"):
        assert len([words for words in commands if part in words]) == 1, (part, commands)
    assert not [words for words in commands if "dashboard/dashboard.py" in words or "monitor.py" in words]
    assert not [words for words in commands if "setup_worker.py" in words and "raylet" not in words]


def test_nothing_is_left_of_a_driver_that_was_killed(launcher: Launcher) -> None:
    process = script(launcher, WAIT)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.communicate()[1][-3000:])
    worker, server = map(psutil.Process, map(int, line.split()))
    raylet = next(p for p in psutil.Process(process.pid).children() if p.name() == "raylet")
    process.send_signal(signal.SIGKILL)
    process.wait()
    raylet.kill()  # as the supervisor of a launch does
    _, alive = psutil.wait_procs([worker, server], timeout=60)
    assert alive == []


def test_a_server_that_cannot_be_reached_leaves_it_to_ray(tmp_path: Path) -> None:
    """The start script hands on to Ray's, which fails here for want of its own arguments."""
    from tuner.execution import worker_start

    started = time.monotonic()
    words = ["--language=PYTHON", f"--temp-dir={tmp_path / 'r'}", "--serialized-runtime-env-context={}"]
    done = subprocess.run(
        [sys.executable, str(worker_start.__file__), "/nonexistent/worker.py", *words],
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert "/nonexistent/worker.py" in done.stderr
    assert time.monotonic() - started < worker_start.IMPORTS_S
