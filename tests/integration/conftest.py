"""Runs `launch.py` as a user would: its own process, its own working folder, its own Ray session folder."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.tracking.stores import copy_empty_store

ROOT = Path(__file__).resolve().parents[2]
FEW_IMAGES = Path(__file__).with_name("few_images")
IMAGES = 40  # of each set that studies measure here, see few_images/
FEW = ["--set", f"max_images={IMAGES}"]  # has --evaluate measure the same
SMALL = ["--max-epochs", "3", "--set", "pretrain.epochs=5", "--set", "outliers.count=200"]


@dataclass
class Done:
    """How a launch ended."""

    code: int
    out: str
    err: str


@dataclass
class Launcher:
    """Starts launches in one folder."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str, group: int | None = None) -> subprocess.Popen[str]:
        """Start a launch, with `group=0` in a process group of its own."""
        command = [sys.executable, str(ROOT / "launch.py"), *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=group,
        )

    def run(self, *arguments: str, timeout: float = 280) -> Done:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            driver_of(process).kill()  # its supervisor ends Ray
            out, err = process.communicate()
            pytest.fail(
                f"launch.py {' '.join(arguments)} took over {timeout} s\n{out[-3000:]}\n{err[-3000:]}"
            )
        return Done(process.returncode, out, err)

    def wait_for(
        self, run: str, text: str, count: int, process: subprocess.Popen[str], timeout: float = 200
    ) -> None:
        """Wait until the run's log holds a text so many times."""
        log = self.folder / "runs" / run / "console.log"
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if process.poll() is not None:
                pytest.fail(f"the launch ended early:\n{process.stdout.read()}\n{process.stderr.read()}")  # type: ignore[union-attr]
            if log.exists() and log.read_text().count(text) >= count:
                return
            time.sleep(0.05)
        pytest.fail(
            f"{text!r} did not appear {count} times:\n{log.read_text() if log.exists() else 'no log'}"
        )

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9 the driver; the launch says so and ends once Ray's processes are gone too."""
        driver = driver_of(process)
        driver.kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1, err
        assert err.splitlines()[-1].startswith(
            f"launch.py: the driver (process {driver.pid}) was killed by SIGKILL"
        )


def driver_of(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the driver of a launch: the child of its supervisor."""
    children = psutil.Process(process.pid).children()
    return next(child for child in children if "--study" in child.cmdline() or "--resume" in child.cmdline())


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    yield from launcher_in(tmp_path)


@pytest.fixture(scope="module")
def module_launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    yield from launcher_in(tmp_path_factory.mktemp("work"))


def launcher_in(folder: Path, store: bool = True, few_images: bool = True) -> Iterator[Launcher]:
    """Set a folder up for launches, with Ray's files elsewhere.

    Args:
        store: put an initialised MLflow store there; without, the launch makes its own.
        few_images: have studies measure the first images of each set alone, see few_images/sitecustomize.py.
    """
    if store:
        copy_empty_store(folder)
    session = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # Ray's sockets need a short path
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "RAY_", "TUNE_"))}
    environment |= {"RAY_TMPDIR": session, "PYTHONPATH": f"{FEW_IMAGES}:{ROOT}" if few_images else str(ROOT)}
    environment |= {"FEW_IMAGES": str(IMAGES)}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    left_behind = (
        Path(session) / "ray" / "ray_current_cluster"
    )  # by a cluster that was killed: no launch may join it
    left_behind.parent.mkdir()
    left_behind.write_text("127.0.0.1:1")
    yield Launcher(folder, environment)
    shutil.rmtree(session, ignore_errors=True)


@pytest.fixture
def small() -> Callable[..., list[str]]:
    """Return the arguments of a study that takes seconds of training."""

    def arguments(name: str, trials: int, *more: str) -> list[str]:
        return ["--study", "aoe_sigma", "--run-name", name, "--trials", str(trials), *SMALL, *more]

    return arguments
