"""Whether the CPU of this machine multiplies bfloat16; where it does not, training in it is slower than in float32."""

from pathlib import Path

from tuner.devices.resources import Resources
from tuner.planning.plan import Plan

#: flags of /proc/cpuinfo, x86 and ARM, of processors that multiply bfloat16
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
CPU_INFO = Path("/proc/cpuinfo")


def multiplies_bf16(info: Path = CPU_INFO) -> bool | None:
    """Return whether the CPU has instructions for it; None where the system does not say."""
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return None
    flags = [
        line.partition(":")[2].split()
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features")
    ]
    return any(name in flags[0] for name in INSTRUCTIONS) if flags else None


def slow_bf16(plan: Plan, resources: Resources, info: Path = CPU_INFO) -> str:
    """Return a line for the user if trials train in bfloat16 on a CPU that has to emulate it, "" otherwise."""
    asked = any("bf16" in lane.values("precision") for lane in plan.lanes)
    if not asked or resources.gpus_per_trial or multiplies_bf16(info) is not False:
        return ""
    return (
        f"precision=bf16 on a CPU without {' or '.join(INSTRUCTIONS[:2])}: a step takes several times as long as with "
        "precision=float32"
    )
