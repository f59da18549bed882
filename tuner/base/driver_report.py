"""What a driver process tells the supervisor that started it: facts as lines of JSON through a pipe.

`tuner.base.driver_process` is the other end. A driver without a supervisor (tests, Python code) tells nobody.
"""

import json
import os
import signal
import sys
from typing import Any

VARIABLE = (
    "TUNER_SUPERVISOR"  #: "<descriptor of the pipe> <pid of the supervisor>", in the driver's environment
)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h

_pipe: int | None = None


def connect() -> bool:
    """Return whether a supervisor has started this process, and take its pipe over.

    Should the supervisor be killed, this process gets SIGTERM (on Linux): it saves and ends.
    """
    global _pipe
    given = os.environ.pop(VARIABLE, "")  # out of the environment: no process below this one is a driver
    if not given:
        return False
    _pipe, supervisor = map(int, given.split())
    os.set_inheritable(_pipe, False)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before the line above
        signal.raise_signal(signal.SIGTERM)
    return True


def supervised() -> bool:
    """Return whether a supervisor has started this process."""
    return _pipe is not None


def tell(**facts: Any) -> None:
    """Tell the supervisor facts; a later value of a name replaces the earlier one."""
    if _pipe is None:
        return
    try:
        os.write(_pipe, json.dumps(facts).encode() + b"\n")
    except BrokenPipeError:
        return  # the supervisor was killed; SIGTERM is on its way to this process


def prctl(option: int, value: int) -> None:
    """Set a property of this process; does nothing where the kernel is not Linux."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
