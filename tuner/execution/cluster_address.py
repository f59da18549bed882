"""Whether a Ray cluster answers at an address. Imports no Ray for HOST:PORT, so that a wrong one is refused at once."""

import os
import socket
from pathlib import Path

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.text import one_line

CONNECT_S = 10


def check_answers(address: str) -> None:
    """Check that something answers at "auto" or HOST:PORT; Ray itself would wait for it without end.

    Raises:
        UsageError: nothing does, or the address in Ray's file may have been put there by another user.
    """
    try:
        found = _of_this_machine() if address == "auto" else address
        if found is not None and "://" not in found:
            host, _, port = found.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, error: Exception) -> UsageError:
    """Return the error of an address that no cluster could be joined at."""
    option = "RAY_ADDRESS" if environment.variable("RAY_ADDRESS") == address else "--address"
    return UsageError(f"no Ray cluster at {option} {address}: {one_line(error, limit=200)}")


def _of_this_machine() -> str | None:
    """Return the address that Ray has left in a file, which is still there after the cluster was killed; or None.

    In a folder for all users anyone may have put it there, to be sent this user's token.
    """
    from ray._common.utils import get_ray_address_file
    from ray._private.services import canonicalize_bootstrap_address

    file = Path(get_ray_address_file(None))
    if file.exists() and (owner := file.stat().st_uid) not in (0, os.geteuid()):
        raise PermissionError(f"{file} was written by user {owner}; name the cluster as HOST:PORT")
    found: str | None = canonicalize_bootstrap_address("auto")
    return found  # if None, ray.init says that there is no cluster
