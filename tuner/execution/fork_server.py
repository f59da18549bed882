"""Forks Ray's Python workers from one process that has imported what they train with.

A worker that Ray starts imports Ray twice, PyTorch with its compiler and scikit-learn: eight seconds of CPU time, and
each stage of a study starts its own. A forked one is ready in a tenth of a second and shares that memory.
`worker_start.py` runs in the place of Ray's own start script and asks here; what it is refused it starts in Ray's way.

Run by its path, with the address of a Unix socket as its argument; it ends when its standard input is closed.
"""

import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 5.0  # with a client that asks and then says nothing


class Start(NamedTuple):
    """A worker to become: its command line, environment, working folder, and descriptors of its standard streams."""

    argv: list[str]
    environment: dict[str, str]
    folder: str
    streams: list[int]


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # and not the folder of this file
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(128)  # who asks early waits for the imports
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
        import_what_needs_no_ray()
        start = serve(listener)
    if start is not None:
        become(start)


def import_what_needs_no_ray() -> None:
    """Import what workers train with, and what takes long of what Ray Tune imports.

    The first step of an optimizer imports PyTorch's compiler, `torch._dynamo`; here such a step would look for GPUs.
    Ray Tune itself is left to the workers that run trials: its import draws from Ray's random generator, of which all
    forks would have copies.
    """
    import pandas  # noqa: F401
    import pyarrow.fs  # noqa: F401
    import pydantic  # noqa: F401
    import sklearn.datasets
    import sklearn.decomposition  # noqa: F401
    import torch._dynamo  # noqa: F401

    import trainables.ray.trial_runner  # noqa: F401
    import tuner.execution.remote_tasks  # noqa: F401


def import_ray(environment: dict[str, str]) -> None:
    """Import Ray in the environment of the first worker, of which its C++ part reads some once."""
    os.environ.update(environment)
    import ray  # noqa: F401

    gc.collect()
    gc.freeze()  # a collection in a worker would copy the pages that it shares


def serve(listener: socket.socket) -> Start | None:
    """Fork a process for each client that asks; return what to become in the child, None once standard input ends."""
    first: dict[str, str] = {}
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        client, _ = listener.accept()
        try:
            start = agreed(client, first)
        except (OSError, ValueError):  # the client has gone, or it is none: it has started a worker itself
            start = None
        if start is not None and os.fork() == 0:
            client.detach()  # open until this process ends: the client waits for that
            return start
        for stream in start.streams if start is not None else ():
            os.close(stream)
        client.close()


def agreed(client: socket.socket, first: dict[str, str]) -> Start | None:
    """Return what a client asks for once it has said that it waits for it; None if this process does not suit.

    Args:
        first: what Ray had in the environment of the first client, which is put there.
    """
    client.settimeout(PATIENCE_S)
    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    start = None
    try:
        with client.makefile("rb") as lines:
            asked = json.loads(lines.read(int.from_bytes(head, "big")))
            ray = {name: value for name, value in asked["environment"].items() if name.startswith("RAY_")}
            if not first:
                import_ray(asked["environment"])
                if can_be_forked():
                    first |= ray
            if first and ray == first and threads() == 1:
                client.sendall(b"ready\n")
                if lines.readline() == b"go\n":
                    client.settimeout(None)
                    start = Start(asked["argv"], asked["environment"], asked["folder"], streams)
    finally:
        if start is None:
            for stream in streams:
                os.close(stream)
    return start


def threads() -> int:
    """Return the number of threads of this process; a fork has one, and the locks that others held are never freed."""
    return len(os.listdir("/proc/self/task"))


def can_be_forked() -> bool:
    """Return whether forks may use a GPU and draw different random names for Ray's objects.

    CUDA does not work in a fork of a process that has begun to use it; its driver is loaded then.
    """
    if "libcuda.so" in Path("/proc/self/maps").read_text():
        return False
    drawn = []
    for _ in range(2):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, sys.modules["ray"].ObjectRef.from_random().binary())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as answer:
            drawn.append(answer.read())
    return drawn[0] != drawn[1]


def become(start: Start) -> None:
    """Run a worker's script in this process, as a new Python would."""
    os.setpgid(0, 0)  # Ray kills the group of a worker with it
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, stream in enumerate(start.streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    os.chdir(start.folder)
    os.environ.clear()
    os.environ.update(start.environment)
    random.seed()
    sys.modules["numpy"].random.seed()  # torch's generators are seeded alike in every process anyway
    sys.argv = start.argv
    runpy.run_path(start.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
