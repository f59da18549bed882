"""Starts Ray on this machine, or joins a cluster that answers."""

import logging
import os
import socket

import ray

from tuner.base.errors import Interrupted, StudyHalted, UsageError


def start_ray(address: str | None) -> None:
    """Join the cluster at an address ("auto" or HOST:PORT), or start Ray here for this launch alone.

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
        reason = " ".join(str(error).split())[:200]
        if address is None:
            raise StudyHalted(f"Ray does not start here ({reason}); mend that") from error
        raise UsageError(f"no Ray cluster at --address {address}: {reason}") from error
    except SystemExit:
        raise Interrupted(143) from None


def check_answers(address: str) -> None:
    """Raise an OSError if nothing answers at the address of a cluster: Ray would wait for it, for ever.

    "auto" is what the last cluster of this machine left in a file; it stays there when the cluster was killed.
    """
    if "://" in address:
        return
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is not None:  # else Ray says that there is none
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
