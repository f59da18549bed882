"""The driver of a study has no torch: only its workers train, and each would hold several hundred MB twice."""

import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, Launcher

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
