"""The places where a study keeps things go away: a full disk, a restarted PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import ROOT, Study, at, integrity
from tuner.commands.open_run import new_run
from tuner.execution.run_stores import RunStores
from tuner.planning.launch_options import LaunchOptions
from tuner.store.trial_reader import read_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
STORAGE = "optuna.storages._rdb.storage:RDBStorage"
REPORT, WRITE = "tuner.store.trial_store:TrialStore.report", "trainables.base.storage:Folder.write"


@pytest.fixture
def disk(study: Study) -> Iterator[Path]:
    """Make the folder `runs` a small disk of its own."""
    folder = study.launcher.folder / "runs"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_ends_the_launch_in_one_line_and_a_resume_goes_on(
    study: Study, disk: Path, whole: dict[str, Any]
) -> None:
    """First under a worker that saves a checkpoint, then under the driver that records an epoch."""
    for fault, words in (
        (at(WRITE, "fill", "0000/epoch-0002", folder=str(disk)), "trial 0000 cannot write"),
        (at(REPORT, "fill", call=2, folder=str(disk)), "disk"),
    ):
        study.faults.arm(fault)
        done = study.run("run")
        assert study.faults.fired
        assert done.code == 1, done.out + done.err
        last = done.err.strip().splitlines()[-1]
        assert last.startswith("launch.py: "), done.err
        assert words in last
        assert f"continue with: python {ROOT}/launch.py --study tiny --resume run" in last
        assert "Traceback" not in done.out + done.err
        assert integrity(disk / "run" / "study.db") == "ok"
        (disk / "filler").unlink()
    study.completed("run")
    study.check("run", whole)


@dataclass
class PostgreSQL:
    """A server of our own."""

    folder: Path
    binaries: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def control(self, *words: str) -> str:
        """Return the command that starts, stops or restarts the server, as a user that PostgreSQL accepts."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        files = f"-D {self.folder}/data -l {self.folder}/log"
        return as_postgres(f'{self.binaries}/pg_ctl -w {files} -o "{options}" {" ".join(words)}')


def as_postgres(command: str) -> str:
    """Return a shell command as PostgreSQL wants it: not as root."""
    if os.geteuid():
        return command
    return f"cd / && setpriv --reuid=postgres --regid=postgres --clear-groups {command}"


def driver() -> None:
    if not (find_spec("psycopg") or find_spec("psycopg2")):
        pytest.skip("no PostgreSQL driver is installed (pip install psycopg2-binary)")


@pytest.fixture
def postgres() -> Iterator[PostgreSQL]:
    driver()
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = PostgreSQL(folder, found[-1].parent, free.getsockname()[1])
    make = f"{server.binaries}/initdb -D {folder}/data -U tester --auth=trust --no-sync"
    subprocess.run(as_postgres(make), shell=True, check=True, capture_output=True)
    subprocess.run(server.control("start"), shell=True, check=True, stdout=subprocess.DEVNULL)
    yield server
    subprocess.run(
        server.control("-m", "immediate", "stop"), shell=True, check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(folder)


@pytest.mark.long
def test_postgresql_restarted_in_mid_study(study: Study, whole: dict[str, Any], postgres: PostgreSQL) -> None:
    """Away for seconds between two transactions; restarted in the middle of one; and under an evaluation's result."""
    quiet = "> /dev/null 2>&1"
    stop, start = postgres.control("-m", "fast", "stop"), postgres.control("start")
    away = f"{stop} {quiet}; (sleep 5; {start}) {quiet} &"
    crash = f"{postgres.control('-m', 'immediate', 'restart')} {quiet}"
    study.completed(
        "run",
        at(REPORT, "run", call=2, command=away),
        at(f"{STORAGE}._set_trial_attr_without_commit", "run", "epoch/", after=True, call=2, command=crash),
        at(f"{STORAGE}._get_prepared_new_trial", "run", after=True, call=5, command=crash),
        at("tuner.store.trial_store:TrialStore.note", "run", "evaluation/", command=crash),
        more=["--study-storage", postgres.url],
    )
    # the server was started from within the launch, which leaves no process behind
    subprocess.run(start, shell=True, check=True, stdout=subprocess.DEVNULL)
    study.check("run", whole, postgres.url)


def test_a_database_that_is_not_there_is_refused_at_once(study: Study) -> None:
    driver()
    study.launcher.environment["TUNER_STUDY_STORAGE"] = "postgresql://me:secret@127.0.0.1:1/x"
    done = study.run("run")
    assert done.code == 2, done.out + done.err
    assert "the study storage postgresql://***@127.0.0.1:1/x" in done.err
    assert "secret" not in done.out + done.err
    assert not study.folder("run").exists()


def test_two_runs_of_one_name_in_one_database_stay_two(tmp_path: Path) -> None:
    """Of two people with folders of their own, or begun anew after the first one's folder was deleted."""
    url = f"sqlite:///{tmp_path}/shared.db"
    plans = []
    for person in ("ann", "bob"):
        options = LaunchOptions(
            "aoe_sigma", run_name="mine", storage=str(tmp_path / person), study_storage=url
        )
        folder, plan = new_run(options, "python launch.py --study aoe_sigma")
        folder.create(plan, {}, study_storage=url)
        stores = RunStores(plan, folder, url)
        assert stores.records() == []
        stores.search.ask(lambda number, params: {"configuration": dict(params), "seed": number})
        stores.search.note("owner", person)
        plans.append(plan)
    assert plans[0].run_id != plans[1].run_id
    assert [plan.run_name for plan in plans] == ["mine", "mine"]
    for plan, person in zip(plans, ("ann", "bob"), strict=True):
        records, facts = read_trials(url, plan)
        assert [record.key for record in records] == ["0000"]
        assert facts["owner"] == person
