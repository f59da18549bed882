"""docs/notebook.ipynb, cell by cell in a process of its own, as a notebook runs it; and Ctrl-C in a script."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, Launcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: runs every code cell in one namespace, then says what is left in it
CELLS = """
import json, signal, sys
cells = json.load(open(sys.argv[1]))["cells"]
names = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
run, alone = names["run"], names["alone"]
print("LEFT " + json.dumps({
    "trials": len(run.trials()),
    "state": run.state,
    "arms": list(run.arms),
    "seeds": run.arms["best"].seed_interval("test/auroc/near").n,
    "winner": run.best.key,
    "alone": [alone.state, alone.study, len(alone.trials()), len(alone.arms)],
    "accuracy": [names["evaluation"].metrics["test/accuracy/clean"], run.best.tests["test/accuracy/clean"]],
    "report": str(alone.report),
    "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "ray": sys.modules["ray"].is_initialized(),
}))
"""


def python(launcher: Launcher, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=launcher.folder,
        env={**launcher.environment, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.DEVNULL,
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_notebook_runs(launcher: Launcher) -> None:
    process = python(launcher, CELLS, str(ROOT / "docs" / "notebook.ipynb"))
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    left = json.loads(out.rpartition("LEFT ")[2])
    report, (again, before) = left.pop("report"), left.pop("accuracy")
    assert report.endswith("/report.html")
    assert os.path.isfile(report)
    assert again == before
    assert left == {
        "trials": 3,
        "state": "done",
        "arms": ["best"],
        "seeds": 2,
        "winner": left["winner"],
        "alone": ["done", "method-standard", 1, 0],
        "sigint": True,
        "ray": False,
    }
    assert "== Which outlier sigma" in out  # of the first cell; the quiet ones print nothing
    assert out.count("== start") == 1
    assert "unknown option 'attack.epsilno'; did you mean attack.epsilon?" in out


INTERRUPTED = """
import robust_tuner as rt
try:
    rt.run("aoe_sigma", run_name="cut", arms="none", trials=3, max_epochs=3, concurrency=1,
           settings={"pretrain.epochs": 5, "outliers.count": 200})
except KeyboardInterrupt as error:
    print("TOLD", type(error).__name__, error.exit_code, error)
"""


def test_ctrl_c_in_a_script_saves_and_says_how_to_go_on(launcher: Launcher) -> None:
    process = python(launcher, INTERRUPTED)
    launcher.wait_for("cut", " epoch ", 1, process)
    os.killpg(
        process.pid, signal.SIGINT
    )  # as terminals and notebooks do: Ray's processes are in the group too
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    told = "interrupted; everything is saved, go on with robust_tuner.resume('cut')"
    assert out.splitlines()[-1] == f"TOLD Interrupted 130 {told}"
    assert "launch.py --study aoe_sigma --resume cut" in out
