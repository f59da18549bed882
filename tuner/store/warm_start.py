"""`--warm-start RUN`: trials of an earlier run as observations for the sampler of a new one.

A lane is one search of a run: the study's own, or that of a baseline arm.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces.study import Floor, Objective
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.base.errors import UsageError
from tuner.base.records import Observation, State, TrialRecord
from tuner.base.text import counted
from tuner.base.urls import sqlite_url
from tuner.planning.plan import LanePlan, Plan, WarmStart
from tuner.planning.space_overrides import RESERVED
from tuner.store.run_folder import RunFolder

OUTSIDE = "outside the space"
FAILED = "failed"
UNENDED = "not ended"
DAMAGED = "damaged"


def attach(plan: Plan, runs: Sequence[str], root: str, study_storage: str | None) -> Plan:
    """Return the plan with the trials of earlier runs as its lanes' priors.

    Lanes are paired by name, where the method is the same. A trial is taken if it has ended, did not fail, and
    is a point of the new lane's space: every searched setting in its domain, every other one as it is fixed here.

    Args:
        runs: names of runs below `root`.
        study_storage: where their databases are, if not in their folders.

    Raises:
        UsageError: no such run; another method, data set or validation protocol; nothing to take.
    """
    for run in dict.fromkeys(runs):
        folder = RunFolder(root, run)
        earlier, _ = folder.read()
        _check(plan, earlier, run)
        plan = _with_run(plan, earlier, _database(folder, study_storage))
    for lane in plan.lanes if runs else ():
        _check_something_left(lane)
    return plan


def _check(plan: Plan, earlier: Plan, run: str) -> None:
    for what, theirs, ours in (
        ("trains method", earlier.method, plan.method),
        ("is on data set", earlier.dataset, plan.dataset),
    ):
        if theirs != ours:
            raise UsageError(
                f"--warm-start {run} {what} {theirs}, this run {ours}: its values do not carry over"
            )
    names = {**earlier.validation, **plan.validation}
    pairs = {name: (earlier.validation.get(name), plan.validation.get(name)) for name in names}
    texts = [f"{name} {there} there, {here} here" for name, (there, here) in pairs.items() if there != here]
    if texts:
        raise UsageError(f"--warm-start {run} was validated in another way: {'; '.join(texts)}")


def _database(folder: RunFolder, study_storage: str | None) -> str:
    own = folder.local / "study.db"
    if own.exists():
        return sqlite_url(own)
    if study_storage:
        return study_storage
    raise UsageError(f"--warm-start {folder.name}: there is no {own}; name its database with --study-storage")


def _with_run(plan: Plan, earlier: Plan, url: str) -> Plan:
    from tuner.store.trial_reader import read_study

    run = earlier.run_name
    reference: dict[str, float] = read_study(url, earlier.run_id, "search").facts.get("reference", {})
    theirs = {lane.name: lane for lane in earlier.lanes}
    note = ""
    if earlier.max_epochs != plan.max_epochs:
        note = f"its trials were trained for up to {counted(earlier.max_epochs, 'epoch')}, these for {plan.max_epochs}"
    lanes, reports = [], []
    for lane in plan.lanes:
        if lane.name in theirs and theirs[lane.name].method == lane.method:
            stored = read_study(url, earlier.run_id, lane.name)
            taken, skipped = observations(stored.records, lane, plan.objectives, plan.floors, reference, run)
            skipped |= {DAMAGED: len(stored.damaged)} if stored.damaged else {}
            if lane.name == "search" and not taken:
                reasons = skipped_text(skipped) or "it has none"
                raise UsageError(f"--warm-start {run}: no trial can be used ({reasons})")
            lane = replace(lane, prior=(*lane.prior, *taken))
            reports.append(WarmStart(run, lane.name, len(taken), skipped, note))
        lanes.append(lane)
    return replace(plan, lanes=tuple(lanes), warm_start=(*plan.warm_start, *reports))


def observations(
    records: Sequence[TrialRecord],
    lane: LanePlan,
    objectives: Sequence[Objective],
    floors: Sequence[Floor],
    reference: Mapping[str, float],
    run: str,
) -> tuple[tuple[Observation, ...], dict[str, int]]:
    """Return trials as observations for the sampler of a lane, and {reason: how many were skipped}.

    Args:
        reference: validation metrics of the pretrained classifier that those trials started from.
    """
    taken: list[Observation] = []
    skipped: Counter[str] = Counter()
    for record in records:
        params = params_in(lane, record)
        lacking = [o.metric for o in objectives if o.metric not in record.judged]
        lacking += [f.metric for f in floors if f.metric not in record.judged]
        lacking += [
            f"the pretrained {f.metric}"
            for f in floors
            if f.below_reference is not None and f.metric not in reference
        ]
        if record.state is State.RUNNING:
            skipped[UNENDED] += 1
        elif record.state is State.FAIL:
            skipped[FAILED] += 1
        elif params is None:
            skipped[OUTSIDE] += 1
        elif lacking:
            skipped[f"without {lacking[0]}"] += 1
        else:
            taken.append(
                Observation(
                    params=params,
                    values=tuple(record.judged[o.metric] for o in objectives),
                    epochs=record.epochs,
                    pruned=record.state is State.PRUNED,
                    violations={
                        f.metric: f.bound(reference.get(f.metric)) - record.judged[f.metric] for f in floors
                    },
                    source=f"{run}/{record.key}",
                )
            )
    return tuple(taken), dict(skipped)


def params_in(lane: LanePlan, record: TrialRecord) -> dict[str, Any] | None:
    """Return a trial's values of the lane's searched parameters, or None if it is no point of the lane's space.

    An option that a trial or the lane does not name has its default.
    """
    params: dict[str, Any] = {}
    for key, (_, _, default) in fields_of(METHODS[lane.method].options).items():
        if key in RESERVED:
            continue
        value = record.configuration.get(key, default)
        if key in lane.space:
            if value not in lane.space[key]:
                return None
            params[key] = value
        elif value != lane.fixed.get(key, default):
            return None
    return params


def _check_something_left(lane: LanePlan) -> None:
    from tuner.store.trial_store import space_size

    known = {tuple(sorted(o.params.items())) for o in lane.prior}
    if lane.space and len(known) >= space_size(lane.space):
        raise UsageError(
            f"--warm-start: all {len(known)} configurations of lane {lane.name} were tried there already"
        )


def skipped_text(skipped: Mapping[str, int]) -> str:
    """Return the skipped trials in words: "3 outside the space, 1 failed"."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())


def lines(plan: Plan) -> list[str]:
    """Return the warm starts of a plan, one line for each lane."""
    texts = []
    for item in plan.warm_start:
        without = (
            f", {sum(item.skipped.values())} skipped ({skipped_text(item.skipped)})" if item.skipped else ""
        )
        note = f"; {item.note}" if item.note else ""
        texts.append(
            f"warm start of {item.lane}: {counted(item.taken, 'trial')} of {item.run}{without}{note}"
        )
    return texts


__all__ = ["attach", "lines", "observations", "params_in"]
