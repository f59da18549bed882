"""The lease's transition function: every state with every observation, and every interleaving of three drivers."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tuner.store.lease_claims import Claim
from tuner.store.lease_states import Action, LeaseState, Seen, observe, overdue, transition

OUTSIDE, CANDIDATE, CONFIRMING, HOLDER = (
    LeaseState.OUTSIDE,
    LeaseState.CANDIDATE,
    LeaseState.CONFIRMING,
    LeaseState.HOLDER,
)
REFUSED, LOST = LeaseState.REFUSED, LeaseState.LOST
NONE, CLAIM, HOLD, RENEW, WITHDRAW = Action.NONE, Action.CLAIM, Action.HOLD, Action.RENEW, Action.WITHDRAW

#: what follows a state when one thing is seen, in the order of COLUMNS
COLUMNS = (
    *(Seen.NOTHING, Seen.LATER_CANDIDATE, Seen.EARLIER_CANDIDATE, Seen.SILENT_HOLDER, Seen.LIVE_HOLDER),
    *(Seen.SILENT_HOLDER | Seen.NEWER_HOLDER, Seen.OWN_CLAIM_GONE, Seen.OVERDUE),
)
TABLE = {
    OUTSIDE: (
        *((CANDIDATE, CLAIM), (CANDIDATE, CLAIM), (OUTSIDE, NONE), (OUTSIDE, NONE), (REFUSED, NONE)),
        *((OUTSIDE, NONE), (CANDIDATE, CLAIM), (CANDIDATE, CLAIM)),
    ),
    CANDIDATE: (
        *((CONFIRMING, HOLD), (CANDIDATE, RENEW), (OUTSIDE, WITHDRAW), (CANDIDATE, RENEW)),
        *((REFUSED, WITHDRAW), (CANDIDATE, RENEW), (CONFIRMING, HOLD), (CONFIRMING, HOLD)),
    ),
    CONFIRMING: (
        *((HOLDER, NONE), (HOLDER, NONE), (HOLDER, NONE), (OUTSIDE, WITHDRAW), (OUTSIDE, WITHDRAW)),
        *((OUTSIDE, WITHDRAW), (HOLDER, NONE), (HOLDER, NONE)),
    ),
    HOLDER: (
        *((HOLDER, RENEW), (HOLDER, RENEW), (HOLDER, RENEW), (HOLDER, RENEW), (HOLDER, RENEW)),
        *((LOST, NONE), (LOST, NONE), (LOST, NONE)),
    ),
    REFUSED: ((REFUSED, NONE),) * 8,
    LOST: ((LOST, NONE),) * 8,
}


def test_the_table_has_every_state_and_every_observation() -> None:
    assert set(TABLE) == set(LeaseState)
    assert all(len(row) == len(COLUMNS) for row in TABLE.values())
    assert {flag for column in COLUMNS for flag in column} == set(Seen)


@pytest.mark.parametrize(
    ("state", "seen", "expected"),
    [(state, seen, row[i]) for state, row in TABLE.items() for i, seen in enumerate(COLUMNS)],
    ids=str,
)
def test_one_thing_is_seen(state: LeaseState, seen: Seen, expected: tuple[LeaseState, Action]) -> None:
    assert transition(state, seen) == expected


def test_of_several_things_the_one_that_forbids_most_decides() -> None:
    """All 128 combinations: what follows is what follows the most restrictive of the things that are seen."""
    strictness = {
        OUTSIDE: [(CANDIDATE, CLAIM), (OUTSIDE, NONE), (REFUSED, NONE)],
        CANDIDATE: [(CONFIRMING, HOLD), (CANDIDATE, RENEW), (OUTSIDE, WITHDRAW), (REFUSED, WITHDRAW)],
        CONFIRMING: [(HOLDER, NONE), (OUTSIDE, WITHDRAW)],
        HOLDER: [(HOLDER, RENEW), (LOST, NONE)],
        REFUSED: [(REFUSED, NONE)],
        LOST: [(LOST, NONE)],
    }
    for state, order in strictness.items():
        alone = {flag: transition(state, flag) for flag in Seen}
        for length in range(len(Seen) + 1):
            for flags in itertools.combinations(Seen, length):
                seen = Seen.NOTHING
                for flag in flags:
                    seen |= flag
                expected = max((order.index(alone[flag]) for flag in flags), default=0)
                assert transition(state, seen) == order[expected], (state, seen)


@pytest.mark.parametrize(
    ("claim", "alive", "expected"),
    [
        (Claim("a", held=False), None, Seen.EARLIER_CANDIDATE),
        (Claim("a", held=False), True, Seen.EARLIER_CANDIDATE),
        (Claim("c", held=False), None, Seen.LATER_CANDIDATE),
        (Claim("c", held=False), False, Seen.NOTHING),
        (Claim("a", generation=3), None, Seen.SILENT_HOLDER),
        (Claim("a", generation=3), True, Seen.LIVE_HOLDER),
        (Claim("a", generation=3), False, Seen.NOTHING),
        (Claim("a", generation=4), None, Seen.SILENT_HOLDER | Seen.NEWER_HOLDER),
        (Claim("a", held=False, generation=4), None, Seen.EARLIER_CANDIDATE),
    ],
)
def test_what_a_claim_amounts_to(claim: Claim, alive: bool | None, expected: Seen) -> None:
    own = Claim("b", generation=3)
    assert observe(own, [(claim, alive)]) == expected
    later = Claim("z", held=False)
    assert observe(own, [(later, None), (claim, alive)]) == expected | Seen.LATER_CANDIDATE
    assert observe(own, []) == Seen.NOTHING


def test_a_claim_is_overdue_before_others_may_take_its_driver_for_dead() -> None:
    assert overdue(45.0, 60.0) == Seen.NOTHING
    assert overdue(45.1, 60.0) == Seen.OVERDUE


# -- every interleaving -------------------------------------------------------------------------------------


class Driver(NamedTuple):
    """A driver in the middle of the protocol; nobody can tell whether it is alive.

    Attributes:
        claim: as stored: "" (none), "candidate" or "holding".
        to_read: of the look under way, the drivers that were listed and whose claims are still to be read.
        looking: whether a look is under way.
        action: what is decided and still to be written.
    """

    state: LeaseState = OUTSIDE
    claim: str = ""
    looking: bool = False
    to_read: tuple[int, ...] = ()
    seen: Seen = Seen.NOTHING
    action: Action = NONE


World = tuple[Driver, ...]
Rule = Callable[[LeaseState, Seen], tuple[LeaseState, Action]]
WRITTEN = {CLAIM: "candidate", HOLD: "holding", WITHDRAW: ""}


def next_worlds(world: World, rule: Rule) -> Iterator[World]:
    """Yield what follows if one driver lists the folder, reads one claim, or writes; the order is anybody's."""
    for me, driver in enumerate(world):
        if driver.state is HOLDER:
            continue
        if driver.action is not NONE:
            claim = WRITTEN.get(driver.action, driver.claim)
            moved = driver._replace(claim=claim, action=NONE)
        elif not driver.looking:
            listed = tuple(i for i, other in enumerate(world) if i != me and other.claim)
            moved = driver._replace(looking=True, to_read=listed, seen=Seen.NOTHING)
        elif driver.to_read:
            other, *rest = driver.to_read
            seen = driver.seen
            if world[other].claim:  # else withdrawn since it was listed
                held = world[other].claim == "holding"
                seen |= observe(Claim(str(me)), [(Claim(str(other), held=held), None)])
            moved = driver._replace(to_read=tuple(rest), seen=seen)
        else:
            state, action = rule(driver.state, driver.seen)
            moved = Driver(state, driver.claim, action=action)
        yield (*world[:me], moved, *world[me + 1 :])


def explore(drivers: int, rule: Rule) -> dict[World, list[World]]:
    start = (Driver(),) * drivers
    found: dict[World, list[World]] = {}
    waiting = [start]
    while waiting:
        world = waiting.pop()
        if world in found:
            continue
        found[world] = list(next_worlds(world, rule))
        waiting += found[world]
    return found


def holders(world: World) -> int:
    return sum(driver.state is HOLDER for driver in world)


def without_a_way_out(worlds: dict[World, list[World]]) -> set[World]:
    """Return the worlds from which no order of reads and writes leads to a holder."""
    before: dict[World, list[World]] = {}
    for world, following in worlds.items():
        for next_world in following:
            before.setdefault(next_world, []).append(world)
    lead_to_a_holder = {world for world in worlds if holders(world)}
    waiting = list(lead_to_a_holder)
    while waiting:
        for world in before.get(waiting.pop(), ()):
            if world not in lead_to_a_holder:
                lead_to_a_holder.add(world)
                waiting.append(world)
    return set(worlds) - lead_to_a_holder


@pytest.mark.parametrize("drivers", [2, 3])
def test_never_two_holders_and_never_none_in_any_order_of_reads_and_writes(drivers: int) -> None:
    worlds = explore(drivers, transition)
    assert max(map(holders, worlds)) == 1
    assert not without_a_way_out(worlds)


def test_the_exploration_finds_a_wrong_rule() -> None:
    """One that does not look again before it relies on its claim, and one that withdraws for nobody."""

    def hasty(state: LeaseState, seen: Seen) -> tuple[LeaseState, Action]:
        return transition(state, Seen.NOTHING if state in (CANDIDATE, CONFIRMING) else seen)

    def stubborn(state: LeaseState, seen: Seen) -> tuple[LeaseState, Action]:
        if state is CANDIDATE and seen & Seen.EARLIER_CANDIDATE:
            seen = Seen.LATER_CANDIDATE
        return transition(state, seen)

    assert max(map(holders, explore(2, hasty))) == 2
    assert without_a_way_out(explore(2, stubborn))
