"""Confirm stage: winner, baselines and controls (the arms), retrained with fresh seeds, and their results."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from search_spaces.study import Arm, fixed
from trainables.base.seeds import derive_seed
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.analysis.results import ArmResult
from tuner.base.records import State, TrialRecord, TrialRole
from tuner.execution.trial_queue import PlannedTrial
from tuner.planning.plan import Plan
from tuner.store.trial_store import TrialStore

Arms = Mapping[str, tuple[str, dict[str, Any]]]  # {arm: (method, configuration)}


def arms_of(plan: Plan, winner: TrialRecord, tuned: Mapping[str, TrialRecord | None]) -> Arms:
    """Return the arms: "best" and the study's, each derived from the winner or from the winner of its own search.

    Args:
        tuned: {arm with a search of its own: its winner}; an arm whose winner is None is left out.
    """
    arms = {"best": (plan.method, dict(winner.configuration))}
    for arm in plan.arms:
        method, own = arm.method or plan.method, tuned.get(arm.name)
        if not arm.search:
            arms[arm.name] = method, _derived(arm, method, winner)
        elif own is not None:
            arms[arm.name] = method, dict(own.configuration)
    return arms


def _derived(arm: Arm, method: str, winner: TrialRecord) -> dict[str, Any]:
    known = fields_of(METHODS[method].options)
    configuration = {k: v for k, v in winner.configuration.items() if k in known and k not in arm.drop}
    return configuration | fixed(arm.overrides)


def plan_trials(plan: Plan, store: TrialStore, arms: Arms) -> tuple[dict[int, PlannedTrial], list[str]]:
    """Return {trial number: planned trial}, and the keys of trials of arms that the run no longer has.

    Trials of an earlier launch for the same arms keep their numbers. A run that was extended may have another winner:
    the trials of the old one stay in the storage, unused, and those still running are ended.
    """
    roles = {arm.name: arm.role for arm in plan.arms}
    existing = store.records()
    planned: dict[int, PlannedTrial] = {}
    following = len(existing)
    for k in range(plan.confirm_seeds):
        seed = derive_seed(plan.seed, "confirm", k) % 2**31
        for arm, (method, configuration) in arms.items():
            attrs = {"arm": arm, "seed_index": k, "role": roles.get(arm, TrialRole.CONFIRM.value)}
            item = PlannedTrial(configuration, method, seed, seed, attrs)
            done = next((r.number for r in existing if item.is_of(r)), None)
            planned[following if done is None else done] = item
            following += done is None
    old = [record for record in existing if record.number not in planned]
    for record in old:
        if record.state is State.RUNNING:
            store.finish(record.number, State.FAIL, "superseded: the run has another winner now")
    return planned, [record.key for record in old]


def records_of_arms(records: Sequence[TrialRecord], arms: Arms) -> list[TrialRecord]:
    """Return the trials that belong to these arms; those of a former winner are left out."""
    return [r for r in records if arms.get(r.arm) == (r.method, dict(r.configuration))]


def arm_results(
    plan: Plan,
    records: Sequence[TrialRecord],
    tests: Mapping[str, Mapping[str, float]],
    last_epochs: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> list[ArmResult]:
    """Return test metrics by arm, "best" first, over the seeds that every arm has finished; [] without "best".

    Args:
        records: see `records_of_arms`.
        tests: {trial key: its test metrics}.
        last_epochs: {trial key: its test metrics after its last epoch}, where it is judged by an earlier one.
    """
    by_arm: dict[str, dict[int, TrialRecord]] = {}
    for record in records:
        if record.key in tests:
            by_arm.setdefault(record.arm, {})[record.seed_index] = record
    if "best" not in by_arm:
        return []
    about = {arm.name: (arm.role, arm.about) for arm in plan.arms} | {"best": ("confirm", "the winner")}
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in by_arm.values())))
    results = []
    for arm, by_seed in by_arm.items():
        rows = [tests[by_seed[k].key] for k in shared]
        values = {m: [row[m] for row in rows] for m in (rows[0] if rows else {})}
        seconds = sum(by_seed[k].seconds for k in shared) / max(1, len(shared))
        role, text = about[arm]
        configuration = next(iter(by_seed.values())).configuration
        seeds = tuple(by_seed[k].seed for k in shared)
        epochs: tuple[int, ...] = ()
        after_last: dict[str, list[float]] = {}
        if plan.epoch == "best":
            epochs = tuple(by_seed[k].judged_epoch for k in shared)
            last = [last_epochs.get(by_seed[k].key, row) for k, row in zip(shared, rows, strict=True)]
            after_last = {m: [row.get(m, math.nan) for row in last] for m in values}
        results.append(ArmResult(arm, role, text, configuration, values, seconds, seeds, epochs, after_last))
    return sorted(results, key=lambda arm: arm.name != "best")
