"""Several machines with sshd on this one, without containers: `with Machines(folder, 3) as machines: ...`.

Each is a process tree in namespaces of its own (`machine.py`) on a bridge that lives in the operator's network
namespace. Nothing is visible outside, there is no route out, and all of it ends with this process.
"""

import ctypes
import ctypes.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Any

USER, UID = "ray", 20_000
SUBNET = "10.77.0"
OPERATOR = f"{SUBNET}.1"
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "sshd", "ssh", "ssh-keygen", "rsync")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SKIPPED_ETC = {"ssh", "shadow", "gshadow", "hostname", "hosts", "resolv.conf", "systemd", "apt", "pip.conf"}
PDEATHSIG = 1


def why_not() -> str:
    """Return why machines cannot be made here, "" if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "isolated machines need Linux and root"
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ['PATH']}:{PATH}")]
    if missing:
        return f"isolated machines need {', '.join(missing)} (openssh-server, rsync, iproute2, util-linux)"
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return "the cluster's services need PostgreSQL (postgresql)"
    try:
        done = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return f"namespaces are refused here: {done.stderr.strip()}" if done.returncode else ""


def python_paths() -> list[str]:
    """Return the folders that this Python runs from, to be seen by every machine at the same place."""
    found = {sys.prefix, sys.base_prefix, *(p for p in sys.path if p.endswith("site-packages"))}
    outermost = [p for p in found if not any(p != q and p.startswith(q + "/") for q in found)]
    return sorted(p for p in outermost if not p.startswith("/usr"))


class Machines:
    """An operator and hosts h1, h2, ... with addresses 10.77.0.11, .12, ...

    Attributes:
        folder: all state; `home` is the operator's, `shared` is mounted as /shared by every host.
        key: private ssh key of the login user on every host.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.names = folder, [f"h{i}" for i in range(1, count + 1)]
        self.addresses = {name: f"{SUBNET}.{10 + i}" for i, name in enumerate(self.names, 1)}
        self.home, self.shared, self.key = folder / "home", folder / "shared", folder / "key"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pids: dict[str, int] = {}

    def __enter__(self) -> "Machines":
        for path in (self.folder, self.home, self.shared, self.folder / "tmp"):
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.shared, self.folder / "tmp"):
            path.chmod(0o1777)
        for path in (self.key, self.folder / "host_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
        try:
            self._start("operator", None)
            _run(*self._net("operator"), "ip", "link", "add", "br0", "type", "bridge")
            _run(*self._net("operator"), "ip", "addr", "add", f"{OPERATOR}/24", "dev", "br0")
            _run(*self._net("operator"), "ip", "link", "set", "br0", "up")
            for name in self.names:
                self._make_disk(name)
                self.boot(name)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    # -- commands --------------------------------------------------------------------------------------

    def at_operator(self, *command: str, env: dict[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command at the operator, as root, in its home folder."""
        variables = {
            "PATH": f"{sys.prefix}/bin:{PATH}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
        variables |= {"USER": "root", "TMPDIR": "/tmp"} | (env or {})
        words = [f"{name}={value}" for name, value in variables.items()]
        change = f'cd "{self.home}" && exec "$@"'
        return [*self._enter("operator"), "env", "-i", *words, "sh", "-c", change, "sh", *command]

    def on_host(self, name: str, *command: str) -> list[str]:
        """Return the command line that runs a command on a host as its login user, in a login shell's settings."""
        drop = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        words = [f"HOME=/home/{USER}", f"USER={USER}", "LANG=C.UTF-8", "TERM=dumb", f"PATH={PATH}"]
        # interactive, or the distribution's .bashrc leaves before its last line
        shell = ["bash", "--login", "-i", "-c", 'cd; exec "$@"', "bash"]
        return [*self._enter(name), *drop, "env", "-i", *words, *shell, *command]

    def host(self, name: str, *command: str, timeout: float = 60) -> str:
        """Run a command on a host and return what it prints."""
        done = subprocess.run(
            self.on_host(name, *command), capture_output=True, text=True, timeout=timeout, errors="replace"
        )
        if done.returncode:
            raise AssertionError(
                f"{name}: {command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def processes_of(self, name: str) -> dict[int, str]:
        """Return {pid on this machine: command line} of a host's processes."""
        namespace = os.readlink(f"/proc/{self.pids[name]}/ns/pid")
        found = {}
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry)] = words.decode(errors="replace").strip()
            except OSError:
                continue
        return found

    # -- what happens to machines ----------------------------------------------------------------------

    def boot(self, name: str) -> None:
        """Start a host from its disk and wait for its sshd."""
        self._start(name, self.addresses[name])
        end = time.monotonic() + 30
        probe = f"import socket; socket.create_connection(({self.addresses[name]!r}, 22), 1).recv(4)"
        while subprocess.run(
            [*self._net("operator"), sys.executable, "-c", probe], capture_output=True
        ).returncode:
            if time.monotonic() > end:
                raise AssertionError(f"no sshd on {name}:\n{(self.folder / f'{name}.log').read_text()}")
            time.sleep(0.1)

    def crash(self, name: str) -> None:
        """Cut a host's power: nothing it says is heard any more, then everything on it is gone."""
        self.link(name, "down")
        os.kill(self.pids.pop(name), signal.SIGKILL)
        self.processes.pop(name).wait(timeout=30)

    def link(self, name: str, state: str) -> None:
        """Pull a host's cable ("down") or plug it in ("up")."""
        _run(*self._net("operator"), "ip", "link", "set", f"v{name}", state)

    def end(self) -> None:
        for name in [*reversed(self.processes)]:
            pid = self.pids.pop(name, None)
            if pid:
                os.kill(pid, signal.SIGKILL)
            process = self.processes.pop(name)
            if not pid:
                process.kill()
            process.wait(timeout=30)

    # -- making them -----------------------------------------------------------------------------------

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", "-t", str(self.pids[name]), "-m", "-n", "-p", "-u", "-i"]

    def _net(self, name: str) -> list[str]:
        return ["nsenter", "-t", str(self.pids[name]), "-n"]

    def _start(self, name: str, address: str | None) -> None:
        config: dict[str, Any] = {
            "name": name,
            "address": address,
            "gateway": OPERATOR,
            "shared": str(self.shared),
            "visible": python_paths(),
            "disk": str(self.folder / "disks" / name) if address else "",
            "root": str(self.folder / f"{name}.root"),
            "tmp": str(self.folder / "tmp"),
        }
        if not address:  # the operator works from the checkout and keeps its own files in `folder`
            config["visible"] += [str(Path(__file__).resolve().parents[2]), str(self.folder)]
        Path(config["root"]).mkdir(exist_ok=True)
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        with open(self.folder / f"{name}.log", "ab") as log:
            program = [sys.executable, str(Path(__file__).with_name("machine.py")), str(path)]
            process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "--kill-child=KILL", *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": f"{os.environ['PATH']}:{PATH}"},
                preexec_fn=_die_with_parent,
            )
        self.processes[name] = process
        self.pids[name] = _child(process, self.folder / f"{name}.log")
        if address:
            # the same hardware address after every boot, as a machine has: stale ARP entries cost 20 s otherwise
            mac = "02:fa:" + ":".join(f"{int(part):02x}" for part in address.split("."))
            net, cable = self._net("operator"), f"v{name}"
            subprocess.run([*net, "ip", "link", "del", cable], capture_output=True)
            peer = ["peer", "name", "eth0", "address", mac, "netns", str(self.pids[name])]
            _run(*net, "ip", "link", "add", cable, "type", "veth", *peer)
            _run(*net, "ip", "link", "set", cable, "master", "br0", "up")

    def _make_disk(self, name: str) -> None:
        """Write a host's disk: /etc, the login user, sshd's settings, and a Python with the dependencies."""
        disk = self.folder / "disks" / name
        for folder in (
            "root",
            "tmp",
            "srv",
            "mnt",
            "var/tmp",
            "var/log",
            "var/lib",
            "var/cache",
            f"home/{USER}",
        ):
            (disk / folder).mkdir(parents=True)
        for folder in ("tmp", "var/tmp"):
            (disk / folder).chmod(0o1777)
        os.symlink("/run", disk / "var" / "run")
        shutil.copytree(
            "/etc", disk / "etc", symlinks=True, ignore=lambda _, names: SKIPPED_ETC.intersection(names)
        )
        etc = disk / "etc"
        (etc / "hostname").write_text(f"{name}\n")
        names = "".join(f"{address} {host}\n" for host, address in self.addresses.items())
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{OPERATOR} operator\n{names}")
        (etc / "resolv.conf").write_text("")
        with open(etc / "passwd", "a") as file:
            file.write(f"{USER}:x:{UID}:{UID}::/home/{USER}:/bin/bash\n")
        with open(etc / "group", "a") as file:
            file.write(f"{USER}:x:{UID}:\n")
        (etc / "profile.d" / "python.sh").write_text(f"PATH={sys.base_prefix}/bin:$PATH\n")
        (etc / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /shared/wheels\n")
        (etc / "ssh").mkdir()
        shutil.copy(self.folder / "host_key", etc / "ssh" / "host_key")
        shutil.copy(self.key.with_suffix(".pub"), etc / "ssh" / "authorized_keys")
        (etc / "ssh" / "sshd_config").write_text(
            "AddressFamily inet\nHostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/authorized_keys\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nPrintMotd no\n"
            "MaxStartups 200\nMaxSessions 200\n"
        )
        home = disk / "home" / USER
        for file_name in (".bashrc", ".profile"):
            shutil.copy(Path("/etc/skel") / file_name, home)
        self._make_environment(home)
        _run("chown", "-R", f"{UID}:{UID}", str(home))

    def _make_environment(self, home: Path) -> None:
        """Write ~/venv as a machine image with the dependencies would hold it: setup has next to nothing to do."""
        _run(sys.executable, "-m", "venv", "--without-pip", str(home / "venv"))
        purelib = Path(sysconfig.get_path("purelib", vars={"base": str(home / "venv")}))
        sites = [path for path in sys.path if path.endswith("site-packages")]
        (purelib / "dependencies.pth").write_text("\n".join(sites) + "\n")
        script = home / "venv" / "bin" / "ray"
        script.write_text(f"#!/home/{USER}/venv/bin/python\nfrom ray.scripts.scripts import main\n\nmain()\n")
        script.chmod(0o755)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")


def _die_with_parent() -> None:
    ctypes.CDLL(ctypes.util.find_library("c")).prctl(PDEATHSIG, signal.SIGKILL)


def _child(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the pid of unshare's child, the machine's first process, once it says it is ready to be plugged in."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 15
    while process.poll() is None and time.monotonic() < end:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError(f"a machine did not start:\n{log.read_text()}")
