"""The lease protocol as a state machine: what a driver does next, from its state and what it sees in the run folder.

Pure functions; `tuner.store.lease` reads and writes the folder.

Of two drivers that see each other's claim before either holds the run, the one with the smaller token goes first.
Both write their claim before they list the others', so at least one of them sees the other.
"""

from collections.abc import Iterable
from enum import Enum, Flag, auto

from tuner.store.lease_claims import Claim


class LeaseState(Enum):
    """A driver's standing with respect to the run."""

    OUTSIDE = "has no claim in the folder"
    CANDIDATE = "has a claim that does not hold the run yet"
    CONFIRMING = "has marked its claim as holding and looks once more before it relies on it"
    HOLDER = "drives the run"
    REFUSED = "has ended: another driver is alive and holds the run"
    LOST = "has ended: the run may belong to another driver"


class Seen(Flag):
    """What one look at the folder shows. Claims of drivers that are known to be dead do not count."""

    NOTHING = 0
    LATER_CANDIDATE = auto()  # another candidate, with a larger token
    EARLIER_CANDIDATE = auto()  # another candidate, with a smaller token: it goes first
    SILENT_HOLDER = auto()  # another driver's claim holds the run; whether that driver is alive is not known
    LIVE_HOLDER = auto()  # another driver's claim holds the run, and that driver is alive
    NEWER_HOLDER = auto()  # another driver's claim holds the run, of a generation above the observer's own
    OWN_CLAIM_GONE = auto()  # the observer's claim has been deleted
    OVERDUE = (
        auto()
    )  # the observer could not renew its claim for so long that others may soon take it for dead


ANY_HOLDER = Seen.SILENT_HOLDER | Seen.LIVE_HOLDER
ANY_RIVAL = ANY_HOLDER | Seen.LATER_CANDIDATE | Seen.EARLIER_CANDIDATE
OVERDUE_SHARE = 0.75  #: of the silence after which others take a driver for dead


class Action(Enum):
    """What a driver does to its own claim on the way to its next state."""

    NONE = "nothing"
    CLAIM = "write it as a candidate's, and look again at once"
    HOLD = "write it as holding the run, and look again at once"
    RENEW = "write it with its counter raised"
    WITHDRAW = "delete it"


def transition(state: LeaseState, seen: Seen) -> tuple[LeaseState, Action]:
    """Return the state that follows and what to do on the way to it; REFUSED and LOST are final."""
    match state:
        case LeaseState.OUTSIDE:
            if seen & Seen.LIVE_HOLDER:
                return LeaseState.REFUSED, Action.NONE
            if seen & (Seen.SILENT_HOLDER | Seen.EARLIER_CANDIDATE):
                return LeaseState.OUTSIDE, Action.NONE
            return LeaseState.CANDIDATE, Action.CLAIM
        case LeaseState.CANDIDATE:
            if seen & Seen.LIVE_HOLDER:
                return LeaseState.REFUSED, Action.WITHDRAW
            if seen & Seen.EARLIER_CANDIDATE:
                return LeaseState.OUTSIDE, Action.WITHDRAW
            if seen & ANY_RIVAL:
                return LeaseState.CANDIDATE, Action.RENEW
            return LeaseState.CONFIRMING, Action.HOLD
        case LeaseState.CONFIRMING:
            if seen & ANY_HOLDER:  # a driver that was taken for dead has written its claim again
                return LeaseState.OUTSIDE, Action.WITHDRAW
            return LeaseState.HOLDER, Action.NONE
        case LeaseState.HOLDER:
            if seen & (Seen.OWN_CLAIM_GONE | Seen.NEWER_HOLDER | Seen.OVERDUE):
                return LeaseState.LOST, Action.NONE
            return LeaseState.HOLDER, Action.RENEW
    return state, Action.NONE


def observe(own: Claim, others: Iterable[tuple[Claim, bool | None]]) -> Seen:
    """Return what the claims of other drivers amount to.

    Args:
        others: each with whether its driver is alive, None where that is not known.
    """
    seen = Seen.NOTHING
    for claim, alive in others:
        if alive is False:
            continue
        if claim.held:
            seen |= Seen.LIVE_HOLDER if alive else Seen.SILENT_HOLDER
            if claim.generation > own.generation:
                seen |= Seen.NEWER_HOLDER
        else:
            seen |= Seen.EARLIER_CANDIDATE if claim.token < own.token else Seen.LATER_CANDIDATE
    return seen


def overdue(unrenewed_s: float, silence_s: float) -> Seen:
    """Return OVERDUE if a claim has not been renewed for `unrenewed_s`, where others wait for `silence_s`."""
    return Seen.OVERDUE if unrenewed_s > OVERDUE_SHARE * silence_s else Seen.NOTHING
