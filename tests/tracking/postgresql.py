"""A PostgreSQL server of its own for tests: a fresh cluster in a temporary folder, on loopback, not run as root."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "tester", "sesam-open-it"


def missing() -> str:
    """Return why no PostgreSQL can be started here, or ""."""
    if not _folder():
        return "PostgreSQL's initdb and postgres are not installed"
    if os.getuid() == 0 and _other_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "psycopg2 is not installed"
    return ""


@dataclass
class Cluster:
    """A running cluster with one database, `name`, whose owner needs a password."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def uri(self, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        options += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with open(self.folder / "postgres.log", "ab") as log:
            self.process = subprocess.Popen(
                [f"{_folder()}/postgres", *options], stdout=log, stderr=log, cwd=self.folder, **_as_other()
            )
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if self._answers():
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError((self.folder / "postgres.log").read_text())

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.uri()).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End the server at once, as a crash would: connections are cut, and recovery follows the next start."""
        assert self.process is not None
        self.process.send_signal(3)  # SIGQUIT: PostgreSQL's immediate shutdown
        self.process.wait()


def create() -> Cluster:
    """Make a cluster; `remove` it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # its socket needs a short path
    other = _other_user() if os.getuid() == 0 else None
    (folder / "password").write_text(PASSWORD)
    if other:
        for path in (folder, folder / "password"):
            os.chown(path, other.pw_uid, other.pw_gid)
    command = [
        f"{_folder()}/initdb",
        "-D",
        str(folder / "data"),
        "-U",
        USER,
        "--pwfile",
        str(folder / "password"),
    ]
    command += ["--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **_as_other())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return Cluster(folder, port)


def remove(cluster: Cluster) -> None:
    if cluster.process is not None and cluster.process.poll() is None:
        cluster.stop()
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _folder() -> str:
    """Return where PostgreSQL's programs are: Debian keeps them off the PATH."""
    places = [shutil.which("initdb") or "", *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    found = [Path(p).parent for p in places if p and (Path(p).parent / "postgres").exists()]
    return str(found[-1]) if found else ""


def _other_user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _as_other() -> dict[str, int]:
    """Return the options of subprocess that give up root; PostgreSQL refuses to run with it."""
    other = _other_user()
    if os.getuid() != 0 or other is None:
        return {}
    return {"user": other.pw_uid, "group": other.pw_gid}
