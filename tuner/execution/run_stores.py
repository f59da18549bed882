"""The stored trials and evaluations of a run, and what follows from them: winner, Pareto front, importances."""

from collections.abc import Mapping

from tuner.analysis.selection import best_feasible, is_feasible, point_of
from tuner.base.records import TrialRecord, TrialRole
from tuner.planning.plan import LanePlan, Plan
from tuner.search.learning_curves import Point, front_numbers
from tuner.store.database import open_storage
from tuner.store.evaluation_store import EvaluationStore
from tuner.store.run_folder import RunFolder
from tuner.store.trial_reader import study_name
from tuner.store.trial_store import TrialStore, importances


class RunStores:
    """The stores of a run, opened for writing by its one driver.

    Attributes:
        lanes: {name: store} of the searches, "search" first.
        confirm: of the confirm stage.
        evaluations: what was measured on the test splits.
    """

    def __init__(self, plan: Plan, folder: RunFolder, storage_url: str) -> None:
        self.plan = plan
        self.storage = open_storage(storage_url)
        self.lanes = {lane.name: self._store(lane) for lane in plan.lanes}
        self.search = self.lanes["search"]
        name = study_name(plan.run_id, "confirm")
        self.confirm = TrialStore(
            self.storage, name, "confirm", TrialRole.CONFIRM, {}, plan.objectives, plan.seed
        )
        self.evaluations = EvaluationStore(self.search, folder)

    def _store(self, lane: LanePlan) -> TrialStore:
        return TrialStore(
            self.storage,
            study_name(self.plan.run_id, lane.name),
            lane.name,
            TrialRole(lane.role),
            lane.space,
            self.plan.objectives,
            self.plan.seed,
            self.plan.sampler,
            lane.prior,
        )

    def records(self) -> list[TrialRecord]:
        """Return every trial of every lane."""
        return [r for store in (*self.lanes.values(), self.confirm) for r in store.records()]

    @property
    def reference(self) -> dict[str, float]:
        """Return the validation metrics of the pretrained classifier, {} where the method has none."""
        metrics: dict[str, float] = self.search.notes().get("reference", {})
        return metrics

    def superseded(self) -> list[str]:
        """Return the keys of confirm trials of a winner that the run no longer has."""
        keys: list[str] = self.search.notes().get("superseded", [])
        return keys

    def point(self, metrics: Mapping[str, float]) -> Point:
        return point_of(self.plan.objectives, metrics)

    def feasible(self, record: TrialRecord) -> bool:
        """Return whether a complete trial meets every floor."""
        return is_feasible(record, self.plan.floors, self.reference)

    def best(self, lane: str = "search") -> TrialRecord | None:
        """Return the feasible trial of a lane that is best in the first objective."""
        plan = self.plan
        return best_feasible(self.lanes[lane].records(), plan.objectives, plan.floors, self.reference)

    def tuned(self) -> dict[str, TrialRecord | None]:
        """Return {arm with a search of its own: its winner, or None}."""
        return {arm.name: self.best(arm.name) for arm in self.plan.arms if arm.search}

    def pareto(self) -> list[str]:
        """Return the keys of the feasible trials that no other dominates in objectives and floors' metrics."""
        floors, reference = self.plan.floors, self.reference
        records = [r for r in self.search.records() if is_feasible(r, floors, reference)]
        points = [(*self.point(r.judged), *(r.judged[f.metric] for f in floors)) for r in records]
        return [r.key for r, front in zip(records, front_numbers(points), strict=True) if front == 0]

    def importances(self) -> dict[str, float]:
        """Return each searched parameter's share of the first objective's variance."""
        return importances(self.storage, study_name(self.plan.run_id, "search"))
