"""A study, a method, a network, data, an attack, outliers, a detector, a score and a sampler of one's own, in a folder.

Run, killed, resumed; and shipped to a cluster of two nodes.
"""

import json
import os
import subprocess
import sys
import time
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
    study = study.replace('dataset="digits-open"', "dataset=data").replace(
        "trials=2", "sampler=halton,\n    trials=2"
    )
    (folder / "mine.py").write_text(study)


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


def submitted(launcher: Launcher, study: str, *words: str) -> subprocess.Popen[str]:
    """Start a launch that submits a job, again until the cluster, which may be starting, has taken it."""
    for _ in range(6):
        process = launcher.start("--study", study, "--run-name", "far", *words)
        assert process.stdout is not None
        if process.stdout.readline().startswith("job far-"):
            return process
        _, err = process.communicate(timeout=60)
        assert "did not take the job" in err.splitlines()[-1], err
        time.sleep(1)
    pytest.fail("the cluster never took the job")


def test_own_code_goes_along_with_a_job_of_two_nodes(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are removed as soon as the job is submitted: its nodes have only what was sent."""
    from ray.cluster_utils import Cluster

    write_files(launcher.folder)
    for name in ("RAY_TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, launcher.environment[name])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )  # a job is `python launch.py`
    # ports of its own, for the usual ones may be another cluster's
    head = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_port": 0,
        "dashboard_agent_listen_port": None,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for name in ("1", "2"):  # each with a folder of its own for what a job brings, as machines have
            cluster.add_node(num_cpus=1, temp_dir=f"{launcher.environment['RAY_TMPDIR']}/{name}")
        address = f"http://{cluster.head_node.webui_url}"
        small = ("--trials", "2", "--max-epochs", "1", "--stages", "search")
        small += ("--storage", str(launcher.folder / "runs"))
        process = submitted(launcher, f"{launcher.folder}/mine.py", *small, "--submit", "--address", address)
        for name in FILES:
            (launcher.folder / name).unlink()
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err
    finally:
        cluster.shutdown()
    assert "search: 2 of 2 trials ended: 2 complete" in out
    plan = stored(launcher.folder, "far")["plan"]
    assert set(plan["code"]) == set(FILES)  # type: ignore[index]
    assert plan["method"] == "mine.py:Mixup"  # type: ignore[index]


def test_skeletons_run_as_they_are_and_so_do_their_tests(launcher: Launcher) -> None:
    for kind in ("study", "method"):
        written = launcher.run("--new", kind, "blur")
        assert written.code == 0, written.err
    again = launcher.run("--new", "method", "blur")
    assert (again.code, again.err) == (
        2,
        "launch.py: --new method blur: blur/method.py exists, and nothing is overwritten; name another folder\n",
    )
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "blur"],
        cwd=launcher.folder,
        env=launcher.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tested.returncode == 0, tested.stdout
    for file in ("study.py", "method.py"):
        small = ("--trials", "1", "--max-epochs", "1", "--stages", "search", "--set", "pretrain.epochs=1")
        done = launcher.run("--study", f"blur/{file}", "--run-name", file[:-3], *small)
        assert done.code == 0, done.err
        assert "search: 1 of 1 trials ended: 1 complete" in done.out
