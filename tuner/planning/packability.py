"""Whether the trials of a plan can be packed, several in one process, and the lines of --dry-run about it."""

from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.packing import unpackable
from tuner.planning.plan import LanePlan, Plan


def lane_unpackable(lane: LanePlan) -> str:
    """Return why no trial of a lane can be packed, "" if some can.

    Options that the lane searches are taken at their defaults, but for a choice, of which one value is enough.
    """
    options = METHODS[lane.method].options
    networks = getattr(lane.space.get("network"), "options", (None,))
    reasons = [
        unpackable(lane.method, build(options, {**lane.fixed, **({"network": n} if n else {})}))
        for n in networks
    ]
    return "" if "" in reasons else reasons[0]


def pack_text(plan: Plan) -> list[str]:
    """Return the lines of --dry-run about packing."""
    pack, measured = plan.pack, plan.gpus_per_trial is None
    if pack == 1 or (pack is None and not measured):
        return ["packing: off"]
    reasons = {lane.name: lane_unpackable(lane) for lane in plan.lanes}
    size = f"up to {pack} trials share a process"
    if pack is None:
        size = "off; with a GPU, what is measured at start decides"
    if all(reasons.values()) or (pack is None and any(reasons.values())):
        size = "every trial has a process of its own"
    return [f"packing: {size}", *(f"  not {name}: {reason}" for name, reason in reasons.items() if reason)]
