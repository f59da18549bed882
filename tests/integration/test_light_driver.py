"""The driver of a study has no torch: only its workers train, and each would hold several hundred MB twice."""

import os
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, Launcher
from tuner.execution.ray_start import PRELOADING_CPUS

WITHOUT_TORCH = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise AssertionError(f"the driver imports {{name}}")

sys.meta_path.insert(0, Refused())
from tuner.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_study_without_torch_in_its_driver(launcher: Launcher) -> None:
    """From the check of its options to the report and the registered model; workers import what they need."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TORCH, "--study", "energy_margins", "--run-name", "light"),
            *("--trials", "2", "--confirm-seeds", "2", "--max-epochs", "3", "--floor", "none"),
            *("--set", "pretrain.epochs=5", "--arms", "pretrained,no_energy"),
        ],
        cwd=launcher.folder,
        env=launcher.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "--export light" in done.stdout, "no model was registered"
    assert "not logged" not in done.stdout
    assert (launcher.folder / "runs" / "light" / "report.html").is_file()


ONLY_RAY = """
import os, sys, time
from pathlib import Path
import psutil
from ray._private.node import Node
before = Node.start_api_server
from tuner.execution.ray_start import start_ray
start_ray(None)
assert Node.start_api_server is before, "the patch outlives the start"

def below():
    return {p.pid: " ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)}

def have_torch():
    workers = [pid for pid, words in below().items() if "ray::" in words]
    return [pid for pid in workers if "libtorch" in Path(f"/proc/{pid}/maps").read_text()]

end = time.monotonic() + 120
while os.cpu_count() <= 8 and not have_torch() and time.monotonic() < end:
    time.sleep(0.2)
print(len(have_torch()))
print("\\n".join(below().values()))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ray_of_one_launch_is_what_it_needs(launcher: Launcher) -> None:
    """No server of a dashboard that is off, no monitor, no log monitor; the workers import torch by themselves."""
    done = subprocess.run(
        [sys.executable, "-c", ONLY_RAY],
        cwd=launcher.folder,
        env=launcher.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    warm, *commands = done.stdout.splitlines()
    for part in ("gcs_server", "raylet/raylet", "DashboardAgent", "RuntimeEnvAgent"):
        assert len([words for words in commands if part in words]) == 1, (part, commands)
    assert not [words for words in commands if "dashboard/dashboard.py" in words or "monitor.py" in words]
    if (os.cpu_count() or 1) <= PRELOADING_CPUS:
        assert int(warm) >= 1, "no worker has imported torch"
