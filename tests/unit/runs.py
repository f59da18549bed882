"""Runs on disk without Ray: a real plan, a real database, the real queue, and trials whose outcome is given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.base.records import Decision, TrialRole
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, new_run_id
from tuner.planning.resolve import resolve
from tuner.store.database import open_storage
from tuner.store.run_folder import RunFolder
from tuner.store.trial_reader import study_name
from tuner.store.trial_store import TrialStore

METRIC = "val/robust_auroc_0.1/near"
CLEAN = "val/accuracy/clean"
SECONDS = 2.0


class StoredRun:
    """One run of aoe_sigma: 9 epochs, rungs at 1 and 3, the best third goes on."""

    def __init__(self, root: Path, name: str = "one", trials: int = 12, **more: Any) -> None:
        self.folder = RunFolder(str(root), name)
        command = f"python launch.py --study aoe_sigma --run-name {name} --storage {root} --trials {trials}"
        request = LaunchOptions("aoe_sigma", trials=trials, confirm_seeds=2)
        self.plan: Plan = replace(resolve(request, name, command), run_id=new_run_id(name))
        self.folder.create(self.plan, {"commit": "abc"}, **more)
        storage = open_storage(self.folder.storage_url(None))
        self.lanes = {
            p.name: TrialStore(
                storage,
                study_name(self.plan.run_id, p.name),
                p.name,
                TrialRole(p.role),
                p.space,
                self.plan.objectives,
                self.plan.seed,
            )
            for p in self.plan.lanes
        }
        self.lanes["search"].note("reference", {CLEAN: 0.95})

    def queue(self, lane: str = "search") -> TrialQueue:
        (planned,) = [p for p in self.plan.lanes if p.name == lane]
        return TrialQueue(
            [Lane(self.lanes[lane], planned.method, planned.fixed, planned.trials, self.plan.seed)],
            self.plan.objectives,
            seed=self.plan.seed,
            max_epochs=self.plan.max_epochs,
            schedule=self.plan.schedule,
            floors=self.plan.floors,
            reference={CLEAN: 0.95},
        )

    def trial(self, queue: TrialQueue, values: Sequence[float], clean: float = 0.95) -> int:
        """Run one more trial with these objective values, an epoch each, as far as it is let; return its number."""
        assignment = queue.next()
        assert assignment is not None
        for epoch, value in enumerate(values, start=1):
            metrics = {METRIC: value, CLEAN: clean, "seconds": SECONDS}
            name = f"checkpoints/{assignment.key}/epoch-{epoch:04d}.pt"
            self.folder.files.write(name, b"weights")
            if queue.report(assignment.key, epoch, metrics, name) is not Decision.CONTINUE:
                break
        return assignment.number
