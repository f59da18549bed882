"""Assignment of trials to packs, the groups of trials that share a worker. Imports no Ray."""

from collections.abc import Sequence

from trainables.base.errors import InputError
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.packing import unpackable
from tuner.execution.trial_queue import Assignment, TrialQueue


class PackAssignment:
    """The pack of every worker; members that end are replaced from the queue.

    A trial without a packed form has its worker to itself. So has a trial whose last worker was lost, until it has
    reported an epoch: if it was the cause, it cannot take other trials down again.

    Args:
        size: most members of a pack, 1 or more.
    """

    def __init__(self, queue: TrialQueue, size: int) -> None:
        self.queue, self.size = queue, size
        self._members: dict[str, list[str]] = {}
        self._exclusive: dict[str, Assignment] = {}  # worker: the trial that has it to itself
        self._deferred: list[Assignment] = []  # taken from the queue for a pack that they cannot join

    def refill(self, worker: str) -> list[Assignment]:
        """Fill a worker's pack from the queue and return the new members; [] if the pack is full or nothing waits."""
        members = self._members.setdefault(worker, [])
        added: list[Assignment] = []
        while len(members) < self.size and worker not in self._exclusive:
            # from one lane if possible: trials of the same method are more likely to have the same shapes
            assignment = self._next(bool(members), added[0].lane if added else "")
            if assignment is None:
                break
            members.append(assignment.key)
            added.append(assignment)
            if not may_share_worker(assignment):
                self._exclusive[worker] = assignment
        return added

    def _next(self, shared: bool, preferred_lane: str) -> Assignment | None:
        """Return the next trial for a worker that has members already (`shared`) or none."""
        for index, deferred in enumerate(self._deferred):
            if may_share_worker(deferred) or not shared:
                return self._deferred.pop(index)
        if self._deferred:  # they get the next free worker, before anything else leaves the queue
            return None
        assignment = self.queue.next(preferred_lane)
        if assignment is None or may_share_worker(assignment) or not shared:
            return assignment
        self._deferred.append(assignment)
        return None

    def epoch_reported(self, worker: str, ended: Sequence[str]) -> None:
        """Record that every member of a worker has reported an epoch and that `ended` have ended."""
        self._members[worker] = [key for key in self._members[worker] if key not in ended]
        exclusive = self._exclusive.get(worker)
        if exclusive is not None and (exclusive.key in ended or is_packable(exclusive)):
            del self._exclusive[worker]

    def members(self, worker: str) -> list[str]:
        """Return the keys of a worker's trials."""
        return list(self._members.get(worker, []))

    def remove_worker(self, worker: str) -> list[str]:
        """Remove a worker that has ended or was lost, and return the keys of its trials."""
        self._exclusive.pop(worker, None)
        return self._members.pop(worker, [])


def is_packable(assignment: Assignment) -> bool:
    """Return whether a trial can be packed; one with invalid options cannot: it fails in a worker of its own."""
    try:
        options = build(METHODS[assignment.method].options, assignment.configuration)
    except InputError:
        return False
    return not unpackable(assignment.method, options)


def may_share_worker(assignment: Assignment) -> bool:
    """Return whether a trial may share a worker from the start."""
    return not assignment.lost_workers and is_packable(assignment)
