"""Starts Ray on this machine or connects to a cluster."""

import logging
import os
import socket

import ray

from tuner.base.errors import Interrupted, StudyHalted, UsageError
from tuner.base.text import one_line


def start_ray(address: str | None) -> None:
    """Connect to the cluster at an address ("auto" or HOST:PORT), or start Ray here for this launch.

    Raises:
        UsageError: no cluster answers at the address.
        StudyHalted: Ray does not start here.
        Interrupted: SIGTERM came while Ray's own handler was in place.
    """
    try:
        if address is not None:
            check_answers(address)
        ray.init(
            address=address or (None if "RAY_ADDRESS" in os.environ else "local"),
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = one_line(error, limit=None)[:200]
        if address is None:
            raise StudyHalted(f"Ray does not start here ({reason}); mend that") from error
        raise UsageError(f"no Ray cluster at --address {address}: {reason}") from error
    except SystemExit:
        raise Interrupted(143) from None


def check_answers(address: str) -> None:
    """Raise an OSError if nothing answers at the address of a cluster; Ray itself would wait for it without end.

    For "auto" Ray reads the address from a file, which is still there after the cluster was killed.
    """
    if "://" in address:
        return
    from ray._private.services import canonicalize_bootstrap_address

    resolved = canonicalize_bootstrap_address(address)
    if resolved is not None:  # if None, ray.init says that there is no cluster
        host, _, port = resolved.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
