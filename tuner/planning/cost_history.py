"""Cost of an epoch as earlier runs measured it (`usage.json` of each run folder), for the preview of a new run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainables.base.storage import read_file
from tuner.base.checksums import Damaged, checked_file
from tuner.base.records import TrialRecord
from tuner.base.typed_json import Mismatch, read
from tuner.planning.plan import Plan
from tuner.search.budget import Usage

FILE = "usage.json"


@dataclass(frozen=True)
class MeasuredCost:
    """The measured cost of one epoch of a lane.

    Attributes:
        seconds, gpu_seconds, cpu_seconds: per epoch.
        run: that measured it.
    """

    seconds: float
    gpu_seconds: float
    cpu_seconds: float
    run: str


def to_json(plan: Plan, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return what a run has used, lane by lane, for its `usage.json`."""
    lanes = {}
    for name in dict.fromkeys(record.lane for record in records):
        method = next((lane.method for lane in plan.lanes if lane.name == name), plan.method)
        lanes[name] = {"method": method, **asdict(Usage.of([r for r in records if r.lane == name]))}
    return {"run": plan.run_name, "dataset": plan.dataset, "lanes": lanes}


def measured(root: str, plan: Plan) -> dict[str, MeasuredCost]:
    """Return {lane: cost} of the newest run on the data set that has trained a lane's method under its name.

    A lane that no run has measured is left out; so are files that cannot be read.
    """
    if "://" in root:
        return {}
    costs: dict[str, MeasuredCost] = {}
    for path in sorted(_files(root), key=_written_at):  # oldest first: a newer one replaces it
        try:
            data = checked_file(read_file(path))
            if data["dataset"] == plan.dataset:
                costs |= _costs(data, plan)
        except (OSError, Damaged, Mismatch, KeyError, TypeError, AttributeError):
            continue  # of another version or damaged: a preview does without
    return costs


def _files(root: str) -> list[Path]:
    try:
        return list(Path(root).glob(f"*/{FILE}"))
    except OSError:
        return []


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a link to nothing
        return 0.0


def _costs(data: Mapping[str, Any], plan: Plan) -> dict[str, MeasuredCost]:
    costs = {}
    for lane in plan.lanes:
        used = data["lanes"].get(lane.name)
        if used and used["method"] == lane.method and used["epochs"] > 0:
            seconds, gpu_seconds, cpu_seconds = (
                read(float, used[name], name) / used["epochs"]
                for name in ("seconds", "gpu_seconds", "cpu_seconds")
            )
            costs[lane.name] = MeasuredCost(seconds, gpu_seconds, cpu_seconds, str(data["run"]))
    return costs
