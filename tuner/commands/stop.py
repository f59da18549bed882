"""`launch.py --stop RUN`: have the run's driver save and end, and wait until it has."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tuner.base.errors import StudyFailed, UsageError
from tuner.commands.run_state import RunSnapshot, RunState, read_run
from tuner.commands.status import state_text
from tuner.planning.launch_options import LaunchOptions
from tuner.store.lease_claims import Claim, Watch, machine, process_start, read_claims
from tuner.store.run_folder import now

PATIENCE_S = 300.0
POLL_S = 0.5


def stop(options: LaunchOptions, say: Callable[[str], None], patience_s: float = PATIENCE_S) -> int:
    """End a run's driver and return the exit status 0 once it has ended.

    The request lies in the run folder, where the driver on whatever machine finds it with its next beat. On this
    machine SIGTERM goes to that very process as well.

    Raises:
        UsageError: there is no such run, or nothing drives it.
        StudyFailed: the driver has not ended in time.
    """
    assert options.stop is not None
    name = options.stop
    run = read_run(name, options.storage, options.study_storage)
    if run.claim is None or run.state not in (RunState.RUNNING, RunState.SILENT):
        raise UsageError(f"run {name!r} is not running: {state_text(run)}")
    request = {"from": f"process {os.getpid()} on {os.uname().nodename}", "at": now()}
    run.folder.files.write(run.claim.stop_file, json.dumps(request).encode())
    signalled = terminate(run.claim, run.folder.local)
    how = "has SIGTERM" if signalled else "will find the request in the run folder"
    say(f"{run.claim} {how}; waiting until it has saved and ended")
    ended = _ended(run, patience_s)
    run.folder.files.delete(run.claim.stop_file)
    if ended is None:
        raise StudyFailed(
            f"{run.claim} still drives run {name!r} after {patience_s:.0f} s; it may be saving, so ask again later"
        )
    if not ended and run.state is RunState.SILENT:
        raise UsageError(f"run {name!r} is not running: {run.claim} has given no sign of life")
    after = read_run(name, options.storage, options.study_storage)
    if after.facts.get("finished"):
        say(f"run {name} was about to end anyway; it is done")
    else:
        say(f"run {name} is saved; {after.ended} of {after.total} trials have ended. To go on:")
        say(f"  {after.resume_command}")
    return 0


def terminate(claim: Claim, folder: Path) -> bool:
    """Send SIGTERM to the driver of a claim, if it is a process of this machine; return whether it was.

    The process is pinned before it is checked, so that a later one with the same number is never hit. A claim is a file
    that whoever made the folder may have written: the process must have something in the folder open.
    """
    if not claim.is_here:
        return False
    try:
        pinned = os.pidfd_open(claim.pid)
    except (ProcessLookupError, AttributeError):  # gone, or not Linux: the request in the folder will do
        return False
    try:
        if claim.machine != machine() or process_start(claim.pid) != claim.start:
            return False
        if not _has_open(claim.pid, folder):
            return False
        signal.pidfd_send_signal(pinned, signal.SIGTERM)
    finally:
        os.close(pinned)
    return True


def _has_open(pid: int, folder: Path) -> bool:
    """Return whether a process has a file below a folder open; False for one that may not be looked at."""
    inside = folder.resolve()
    descriptors = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        for descriptor in descriptors.iterdir():
            with suppress(OSError):  # closed meanwhile
                if Path(os.readlink(descriptor)).is_relative_to(inside):
                    return True
    return False


def _ended(run: RunSnapshot, patience_s: float) -> bool | None:
    """Wait; return True once the claim is withdrawn, False if its driver is dead, None if it outlasts the patience."""
    assert run.claim is not None
    watch, until = Watch(), time.monotonic() + patience_s
    while time.monotonic() < until:
        claims = [claim for claim in read_claims(run.folder.files) if claim.token == run.claim.token]
        if not claims:
            return True
        if watch.is_alive(claims[0]) is False:
            return False
        time.sleep(POLL_S)
    return None
