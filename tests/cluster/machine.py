"""The first process of a pretend machine, in network, mount, PID, UTS and IPC namespaces of its own.

`python machine.py CONFIG.json` is started by `machines.py` through unshare(1). It builds the machine's file system
out of this one's programs (read-only) and the machine's own disk, starts sshd, and reaps; when it ends, the
kernel ends every process of the machine. Standard library only.
"""

import ctypes
import ctypes.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LIBC = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
DETACH = 2
KEPT = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC | 1024 | 2048 | 1 << 21  # flags that a remount must repeat
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PROGRAMS = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
OWN = ("etc", "home", "root", "tmp", "var", "srv", "mnt")  # on the machine's disk


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(
    source: str | Path | None, target: str | Path, kind: str | None, flags: int = 0, data: str | None = None
) -> None:
    def encode(text: object) -> bytes | None:
        return None if text is None else os.fsencode(str(text))

    result = LIBC.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data))
    check(result, f"mount {source} on {target}")


def bind(source: str | Path, target: str | Path, read_only: bool = False) -> None:
    source, target = Path(source), Path(target)
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, None, BIND | RECURSIVE)
    if read_only:
        kept = os.statvfs(target).f_flag & KEPT
        mount(None, target, None, BIND | REMOUNT | READ_ONLY | kept)


def mount_proc(target: str | Path) -> None:
    mount("proc", target, "proc", NO_SUID | NO_DEV | NO_EXEC)


def build_root(new: Path, disk: Path, visible: list[str], shared: str) -> None:
    """Make `new` the root: programs read-only, the disk, `visible` paths read-only, `shared` as /shared."""
    mount("tmpfs", new, "tmpfs", NO_SUID, "mode=755,size=16m")
    for name in PROGRAMS:
        source = Path("/") / name
        if source.is_symlink():
            os.symlink(os.readlink(source), new / name)
        elif source.is_dir():
            bind(source, new / name, read_only=True)
    for name in OWN:
        bind(disk / name, new / name)
    build_devices(new / "dev")
    (new / "run").mkdir()
    mount("tmpfs", new / "run", "tmpfs", NO_SUID | NO_DEV, "mode=755,size=64m")
    (new / "run" / "sshd").mkdir()
    (new / "run" / "lock").mkdir(mode=0o777)
    bind("/sys", new / "sys", read_only=True)
    (new / "proc").mkdir()
    mount_proc(new / "proc")
    bind(shared, new / "shared")
    for path in visible:
        bind(path, str(new) + path, read_only=True)
    old = new / "mnt" / ".old"
    old.mkdir(exist_ok=True)
    os.chdir(new)
    check(LIBC.syscall(PIVOT_ROOT[os.uname().machine], b".", b"mnt/.old"), "pivot_root")
    os.chdir("/")
    check(LIBC.umount2(b"/mnt/.old", DETACH), "umount of the old root")
    os.rmdir("/mnt/.old")


def build_devices(dev: Path) -> None:
    dev.mkdir()
    mount("tmpfs", dev, "tmpfs", NO_SUID, "mode=755,size=1m")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(f"/dev/{name}", dev / name)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", dev / name)
    os.symlink("/proc/self/fd", dev / "fd")
    (dev / "pts").mkdir()
    mount("devpts", dev / "pts", "devpts", NO_SUID | NO_EXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    os.symlink("pts/ptmx", dev / "ptmx")
    (dev / "shm").mkdir()
    mount("tmpfs", dev / "shm", "tmpfs", NO_SUID | NO_DEV, "mode=1777,size=8g")


def build_operator(tmp: Path, visible: list[str]) -> None:
    """Give the operator a /tmp of its own: Ray's launcher keeps its state and ssh sockets there."""
    mount_proc("/proc")
    for path in visible:
        if path.startswith("/tmp/"):
            bind(path, str(tmp) + path.removeprefix("/tmp"))
    bind(tmp, "/tmp")


def plug_in(address: str | None, gateway: str) -> None:
    """Wait for the cable, then take the address. The operator has a bridge, made from outside, and no cable."""
    run("ip", "link", "set", "lo", "up")
    if address is None:
        return
    end = time.monotonic() + 15
    while "eth0" not in (name for _, name in socket.if_nameindex()):
        if time.monotonic() > end:
            raise SystemExit("no cable was plugged in")
        time.sleep(0.01)
    run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", gateway)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def reap() -> None:
    """Collect the dead for ever: the duty of a first process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.2)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    mount(None, "/", None, RECURSIVE | PRIVATE)
    socket.sethostname(config["name"])
    if config["disk"]:
        build_root(Path(config["root"]), Path(config["disk"]), config["visible"], config["shared"])
    else:
        build_operator(Path(config["tmp"]), config["visible"])
    plug_in(config["address"], config["gateway"])
    if config["disk"]:
        subprocess.Popen(["/usr/sbin/sshd", "-D", "-e"], stdin=subprocess.DEVNULL, cwd="/")
    print("ready", flush=True)
    reap()


if __name__ == "__main__":
    main()
