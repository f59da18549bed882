"""A study, a method, a network, an attack, a detector, a score and a sampler of the user's own, from one folder.

Run, killed, resumed; and what --new writes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Launcher
from tests.unit.own_files import FILES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVERYTHING = FILES["mine.py"].replace('protocol={"groups": ("clean", "ood")}', "protocol=PROTOCOL")
ARM = """
from own_data import data
from own_parts import FeatureNorm, halton, second_logit, sprinkle, stripes

PROTOCOL = {"groups": ("clean", "ood"), "scores": (second_logit,), "detectors": ("knn", FeatureNorm)}
ATTACKED = {"attack.name": sprinkle, "outliers.generator": stripes, "outliers.count": 80, "pretrain.epochs": 1}
AOE = Arm("aoe", "control", ATTACKED, method="aoe", about="outliers with own noise")
"""


def write_files(folder: Path) -> None:
    """Write a study of everything that can be one's own."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    study = EVERYTHING.replace("\nSTUDY = ", f"{ARM}\nSTUDY = ").replace(
        'about="no mixing"),)', 'about="no mixing"), AOE)'
    )
    (folder / "mine.py").write_text(study.replace("trials=2", "sampler=halton,\n    trials=2"))


def stored(folder: Path, run: str) -> dict[str, object]:
    entries: dict[str, object] = json.loads((folder / "runs" / run / "plan.json").read_text())
    return entries


def test_own_code_is_run_killed_and_resumed(launcher: Launcher) -> None:
    write_files(launcher.folder)
    own = ("--study", "./mine.py", "--run-name", "own", "--concurrency", "1", "--confirm-seeds", "1")
    process = launcher.start(*own)
    launcher.wait_for("own", "1 of 2 trials ended", 1, process)
    launcher.kill(process)
    plan = stored(launcher.folder, "own")["plan"]
    assert {Path(path).name for path in plan["code"]} == set(FILES)  # type: ignore[index]
    assert plan["sampler"] == f"{launcher.folder}/mine.py:halton"  # type: ignore[index]

    method = launcher.folder / "own_method.py"
    method.write_text(f"{FILES['own_method.py']}# changed\n")
    refused = launcher.run("--study", "./mine.py", "--resume")
    assert refused.code == 2
    assert refused.err.startswith(f"launch.py: {method} has changed since run own began")
    method.write_text(FILES["own_method.py"])

    resumed = launcher.run("--study", "./mine.py", "--resume", timeout=600)
    assert resumed.code == 0, resumed.err
    assert "winner: trial" in resumed.out
    header, *_ = (launcher.folder / "runs" / "own" / "arms.csv").read_text().splitlines()
    assert {"test/FeatureNorm/auroc/near", "test/second_logit/auroc/near"} <= set(header.split(","))
    shown = launcher.run("--status", "own")
    assert shown.code == 0, shown.err


@pytest.mark.parametrize(("kind", "file"), [("study", "study.py"), ("method", "method.py")])
def test_a_skeleton_runs_as_it_is_and_so_does_its_test(kind: str, file: str, launcher: Launcher) -> None:
    written = launcher.run("--new", kind, "blur")
    assert written.code == 0, written.err
    again = launcher.run("--new", kind, "blur")
    assert (again.code, again.err) == (
        2,
        f"launch.py: --new {kind} blur: blur/{file} exists, and nothing is overwritten; name another folder\n",
    )
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"blur/test_{file}"],
        cwd=launcher.folder,
        env=launcher.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tested.returncode == 0, tested.stdout
    small = ("--trials", "2", "--max-epochs", "1", "--stages", "search,report", "--set", "pretrain.epochs=1")
    done = launcher.run("--study", f"blur/{file}", *small)
    assert done.code == 0, done.err
    assert list((launcher.folder / "runs").glob("blur-*/report.html"))
