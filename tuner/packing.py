"""What `--pack` comes to for a plan, and how the plan says it; imports nothing heavy."""

from collections.abc import Sequence

from trainables import get
from trainables.options import build
from trainables.options.packing import unpackable
from tuner.plan import LanePlan


def lane_unpackable(lane: LanePlan) -> str:
    """Return why no trial of a lane can be packed, "" if some can.

    Options that the lane searches are taken at their defaults, but for a choice, of which one value is enough.
    """
    options = get(lane.method).load_options()
    networks = getattr(lane.space.get("network"), "options", (None,))
    reasons = [
        unpackable(lane.method, build(options, {**lane.fixed, **({"network": n} if n else {})}))
        for n in networks
    ]
    return "" if "" in reasons else reasons[0]


def pack_size(wish: int | None) -> int:
    """Return how many trials at most share a worker.

    Args:
        wish: of `--pack`: a number, 1 for off, None for auto: 1, because what packing brings on a GPU has not been
            measured yet, and on a CPU it brings something to tiny networks only.
    """
    return 1 if wish is None else wish


def pack_text(wish: int | None, lanes: Sequence[LanePlan]) -> list[str]:
    """Return the plan's lines on packing."""
    if pack_size(wish) == 1:
        return ["packing: off"]
    reasons = {lane.name: lane_unpackable(lane) for lane in lanes}
    size = f"up to {wish} trials share a process"
    if all(reasons.values()):
        size = "every trial has a process of its own"
    return [f"packing: {size}", *(f"  not {name}: {reason}" for name, reason in reasons.items() if reason)]
