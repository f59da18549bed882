"""Tells readers of a run that its supervisor restarts the driver after a pause: an entry of `plan.json`."""

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuner.base.signals import Signals
from tuner.base.typed_json import Mismatch, read
from tuner.store.lease_claims import Claim, new_claim
from tuner.store.run_folder import RunFolder

ENTRY = "restart"
LATE_S = 60.0  #: after which a restart that has not come will not come


@dataclass(frozen=True)
class Restart:
    """A restart to come.

    Attributes:
        at: when, UTC.
        number, of: how many restarts there will have been then, and how many there may be.
        host, pid, machine, start: the supervisor's process, see `Claim`.
    """

    at: str
    number: int
    of: int
    host: str
    pid: int
    machine: str
    start: str

    @property
    def local_time(self) -> datetime.datetime:
        """Return when it comes, in the time zone of this machine."""
        return datetime.datetime.fromisoformat(self.at).astimezone()

    def __str__(self) -> str:
        return f"restarts by itself at {self.local_time:%H:%M:%S} (restart {self.number} of {self.of})"


def announce(folder: RunFolder, number: int, of: int, seconds: float) -> None:
    """Store that this process restarts the run's driver in so many seconds; the next launch removes it.

    Raises:
        UsageError: another driver holds the run.
        OSError: the storage does not take it.
    """
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    me = new_claim()
    restart = Restart(at.isoformat(timespec="seconds"), number, of, me.host, me.pid, me.machine, me.start)
    with folder.lease().held(Signals()):
        folder.update(**{ENTRY: asdict(restart)})


def announced(facts: Mapping[str, Any], now: datetime.datetime | None = None) -> Restart | None:
    """Return the restart that is to come, None if there is none: its supervisor is dead, or it is overdue.

    Args:
        facts: entries of `plan.json`.
        now: default the present time.
    """
    try:
        restart = read(Restart, facts.get(ENTRY), ENTRY)
        late_s = ((now or datetime.datetime.now(datetime.UTC)) - restart.local_time).total_seconds()
    except (Mismatch, ValueError, OverflowError):  # none, or of another version
        return None
    supervisor = Claim("", restart.host, restart.pid, restart.machine, restart.start)
    return None if late_s > LATE_S or supervisor.is_alive() is False else restart
