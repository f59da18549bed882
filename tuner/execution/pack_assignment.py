"""Which trials share a worker: packs that are refilled from the queue as their members end. Knows no Ray."""

from collections.abc import Sequence

from trainables.base.errors import InputError
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.packing import unpackable
from tuner.execution.trial_queue import Assignment, TrialQueue


class Packs:
    """The members of every worker's pack.

    A trial without a packed form has its worker to itself. So has one whose last worker died, until it has reported an
    epoch: if it was its fault, nobody else is taken along again.

    Args:
        size: members at most, 1 or more.
    """

    def __init__(self, queue: TrialQueue, size: int) -> None:
        self.queue, self.size = queue, size
        self._members: dict[str, list[str]] = {}
        self._alone: dict[str, Assignment] = {}  # worker: the trial that has it to itself
        self._held: list[Assignment] = []  # handed out by the queue to a pack that they cannot join

    def refill(self, worker: str) -> list[Assignment]:
        """Return whom a worker is to train besides its members, whose number grows by them; [] if nobody is due."""
        members = self._members.setdefault(worker, [])
        added: list[Assignment] = []
        while len(members) < self.size and worker not in self._alone:
            # all from one lane if they can be: trials of one method are likelier to have one shape
            assignment = self._next(bool(members), added[0].lane if added else "")
            if assignment is None:
                break
            members.append(assignment.key)
            added.append(assignment)
            if not joins(assignment):
                self._alone[worker] = assignment
        return added

    def _next(self, beside_others: bool, lane: str) -> Assignment | None:
        for place, held in enumerate(self._held):
            if joins(held) or not beside_others:
                return self._held.pop(place)
        if self._held:  # its turn comes with the next worker that is free; nobody overtakes it
            return None
        assignment = self.queue.next(lane)
        if assignment is None or joins(assignment) or not beside_others:
            return assignment
        self._held.append(assignment)
        return None

    def reported(self, worker: str, ended: Sequence[str]) -> None:
        """Note that every member has reported an epoch, and which of them have ended."""
        self._members[worker] = [key for key in self._members[worker] if key not in ended]
        alone = self._alone.get(worker)
        if alone is not None and (alone.key in ended or has_form(alone)):
            del self._alone[worker]

    def members(self, worker: str) -> list[str]:
        """Return the keys of a worker's trials."""
        return list(self._members.get(worker, []))

    def dismiss(self, worker: str) -> list[str]:
        """Forget a worker, which has ended or died, and return whom it trained."""
        self._alone.pop(worker, None)
        return self._members.pop(worker, [])


def has_form(assignment: Assignment) -> bool:
    """Return whether a trial can be packed; one whose options are refused says so in a worker of its own."""
    try:
        options = build(METHODS[assignment.method].options, assignment.configuration)
    except InputError:
        return False
    return not unpackable(assignment.method, options)


def joins(assignment: Assignment) -> bool:
    """Return whether a trial may share a worker from the start."""
    return not assignment.deaths and has_form(assignment)
