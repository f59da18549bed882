"""The processes of a Ray that was started on this machine for one launch: which ones a driver cannot do without."""

import contextlib
from typing import Any

import psutil
import ray

#: {Ray's own name of a process that `ray.init` starts: ours}
STARTED = {"raylet": "raylet", "gcs_server": "GCS"}
#: {part of the command line of a child of the raylet: its name}; the raylet ends itself after the end of one of them
AGENTS = {
    "DashboardAgent": "dashboard agent",
    "dashboard/agent.py": "dashboard agent",
    "RuntimeEnvAgent": "runtime environment agent",
    "runtime_env/agent/main.py": "runtime environment agent",
}


def needed_processes() -> dict[str, int]:
    """Return {name: pid} of the raylet, the GCS and the agents; empty for a driver that has joined a cluster.

    After the death of one of them Ray's C++ code ends the driver's process without a word, within a minute, or has it
    wait for ever.
    """
    started = _node().all_processes
    if "raylet" not in started:
        return {}
    found = {name: started[kind][0].process.pid for kind, name in STARTED.items()}
    for child in psutil.Process(found["raylet"]).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker that has just ended
            command = " ".join(child.cmdline())
            found |= {name: child.pid for part, name in AGENTS.items() if part in command}
    return found


def log_folder() -> str:
    """Return where the processes of Ray on this machine write their logs."""
    return str(_node().get_logs_dir_path())


def _node() -> Any:
    return ray._private.worker._global_node
