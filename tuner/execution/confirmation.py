"""The confirm stage: which arms are retrained with fresh seeds, as which trials, and what came of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.study import Arm, fixed
from trainables.base.seeds import derive_seed
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.analysis.results import ArmResult
from tuner.base.records import Role, State, TrialRecord
from tuner.execution.trial_queue import Planned
from tuner.planning.plan import Plan
from tuner.store.trial_store import TrialStore

Arms = Mapping[str, tuple[str, dict[str, Any]]]  # {arm: (method, configuration)}


def no_winner(plan: Plan, records: Sequence[TrialRecord]) -> str:
    """Return why there is nothing to confirm."""
    complete = [r for r in records if r.state is State.COMPLETE]
    if not complete:
        return "no trial of the search is complete; nothing to confirm"
    floors = "; ".join(map(str, plan.floors))
    return f"none of {len(complete)} complete trials meets the floor ({floors}); nothing to confirm"


def arms_of(plan: Plan, winner: TrialRecord, tuned: Mapping[str, TrialRecord | None]) -> Arms:
    """Return the arms: "best", and each of the study's, derived from the winner or with a winner of its own.

    Args:
        tuned: {arm with a search of its own: its winner}; one without a feasible trial is left out.
    """
    found = {"best": (plan.method, dict(winner.configuration))}
    for arm in plan.arms:
        method, own = arm.method or plan.method, tuned.get(arm.name)
        if not arm.search:
            found[arm.name] = method, _derived(arm, method, winner)
        elif own is not None:
            found[arm.name] = method, dict(own.configuration)
    return found


def _derived(arm: Arm, method: str, winner: TrialRecord) -> dict[str, Any]:
    known = fields_of(METHODS[method].options)
    configuration = {k: v for k, v in winner.configuration.items() if k in known and k not in arm.drop}
    return configuration | fixed(arm.overrides)


def plan_trials(plan: Plan, store: TrialStore, arms: Arms) -> tuple[dict[int, Planned], list[str]]:
    """Return {trial number: work}, and the keys of trials whose arms have changed since.

    What an earlier launch did for the same arms keeps its number. A run that was extended may have another winner:
    the old one's trials stay in the storage, unused; those still running are ended.
    """
    roles = {arm.name: arm.role for arm in plan.arms}
    existing = store.records()
    planned: dict[int, Planned] = {}
    following = len(existing)
    for k in range(plan.confirm_seeds):
        seed = derive_seed(plan.seed, "confirm", k) % 2**31
        for arm, (method, configuration) in arms.items():
            attrs = {"arm": arm, "seed_index": k, "role": roles.get(arm, Role.CONFIRM.value)}
            item = Planned(configuration, method, seed, seed, attrs)
            done = next((r.number for r in existing if item.is_of(r)), None)
            planned[following if done is None else done] = item
            following += done is None
    old = [record for record in existing if record.number not in planned]
    for record in old:
        if record.state is State.RUNNING:
            store.finish(record.number, State.FAIL, "superseded: the run has another winner now")
    return planned, [record.key for record in old]


def current(records: Sequence[TrialRecord], arms: Arms) -> list[TrialRecord]:
    """Return the trials of the arms as they are now."""
    return [r for r in records if arms.get(r.arm) == (r.method, dict(r.configuration))]


def results_of(
    plan: Plan, records: Sequence[TrialRecord], tests: Mapping[str, Mapping[str, float]]
) -> list[ArmResult]:
    """Return test metrics by arm, "best" first, over the seeds that every arm has finished; empty without "best".

    Args:
        records: the confirm trials of the arms as they are now.
        tests: {trial key: its test metrics}.
    """
    by_arm: dict[str, dict[int, TrialRecord]] = {}
    for record in records:
        if record.key in tests:
            by_arm.setdefault(record.arm, {})[record.seed_index] = record
    if "best" not in by_arm:
        return []
    about = {arm.name: (arm.role, arm.about) for arm in plan.arms} | {"best": ("confirm", "the winner")}
    shared = sorted(set.intersection(*(set(found) for found in by_arm.values())))
    results = []
    for arm, found in by_arm.items():
        rows = [tests[found[k].key] for k in shared]
        values = {m: [row[m] for row in rows] for m in (rows[0] if rows else {})}
        seconds = sum(found[k].seconds for k in shared) / max(1, len(shared))
        role, text = about.get(arm, ("control", ""))
        results.append(ArmResult(arm, role, text, next(iter(found.values())).configuration, values, seconds))
    return sorted(results, key=lambda arm: arm.name != "best")
