"""What `--pack` comes to for a plan, and how the plan says it; imports nothing heavy."""

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
    """Return the plan's lines on packing."""
    wish, measured = plan.pack, plan.gpus_per_trial is None
    if wish == 1 or (wish is None and not measured):
        return ["packing: off"]
    reasons = {lane.name: lane_unpackable(lane) for lane in plan.lanes}
    size = f"up to {wish} trials share a process"
    if wish is None:
        size = "off; with a GPU, what is measured at start decides"
    if all(reasons.values()) or (wish is None and any(reasons.values())):
        size = "every trial has a process of its own"
    return [f"packing: {size}", *(f"  not {name}: {reason}" for name, reason in reasons.items() if reason)]
