"""What happens to machines: a node leaves the cluster, memory runs out, a clock is set back."""

import shlex
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import Study, at

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]
BATCH, REPORT = "trainables.training.method:Trainer.step", "tuner.store.trial_store:TrialStore.report"
CLOCK = Path(__file__).with_name("clock.c")


def test_a_node_that_leaves_takes_no_trial_with_it(
    study: Study, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes with room for one trial each; the one that trains loses its power in mid-epoch."""
    from ray.cluster_utils import Cluster

    for name, value in study.launcher.environment.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        study.faults.arm(at(BATCH, "hang", call=12))
        process = study.launcher.start(
            *("--study", "tiny", "--run-name", "run", "--concurrency", "1", "--address", cluster.address)
        )
        end = time.monotonic() + 600
        while not study.faults.fired:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.2)
        (line,) = study.faults.fired
        above = {parent.pid for parent in psutil.Process(int(line.split()[0])).parents()}
        (hit,) = [n for n in nodes if n.all_processes["raylet"][0].process.pid in above]
        cluster.remove_node(hit, allow_graceful=False)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, out + err
    finally:
        cluster.shutdown()
    study.check("run", whole)


def test_out_of_memory_ends_one_worker_and_not_the_study(study: Study, whole: dict[str, Any]) -> None:
    """Ray's memory monitor kills a worker that takes 4 GB more than are in use now."""
    memory = psutil.virtual_memory()
    threshold = 1 - (memory.available - 4 * 2**30) / memory.total
    if not 0 < threshold < 0.95:
        pytest.skip(f"{memory.available / 2**30:.0f} GB of memory are free; the test needs 6")
    study.launcher.environment |= {
        "RAY_memory_usage_threshold": f"{threshold:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    study.completed("run", at(BATCH, "hog", call=12))
    logs = "".join(p.read_text() for p in study.folder("run").glob("logs/*.log"))
    assert "memory" in logs
    study.check("run", whole)


def test_a_clock_set_back_in_mid_study(study: Study, whole: dict[str, Any]) -> None:
    """By an hour, for the driver, Ray and its workers alike; clocks that only count go on."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the clock that the test sets (apt-get install gcc libc6-dev)")
    library, offset = study.launcher.folder / "clock.so", study.launcher.folder / "offset"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK)], check=True)
    offset.write_bytes(struct.pack("<q", 0))
    back = shlex.quote(f"import struct; open({str(offset)!r}, 'r+b').write(struct.pack('<q', -3600))")
    study.launcher.environment |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}
    study.completed("run", at(REPORT, "run", call=2, command=f"{sys.executable} -c {back}"))
    study.check("run", whole)
    with sqlite3.connect(study.folder("run") / "study.db") as database:
        begun = [t for (t,) in database.execute("SELECT datetime_start FROM trials ORDER BY trial_id")]
    assert begun != sorted(begun)  # by the calendar a later trial began before an earlier one
