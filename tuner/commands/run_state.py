"""Reads the state of a run from its folder and its storage, for --status, --why and --stop.

Reads only, locks nothing, and works while a driver runs, after it was killed, and on another machine.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from search_spaces.study import Floor
from tuner.analysis.selection import best_feasible
from tuner.analysis.verdict import trials_to_add
from tuner.base.checksums import Damaged
from tuner.base.errors import UsageError
from tuner.base.records import State, TrialRecord
from tuner.base.text import one_line
from tuner.base.urls import sqlite_file
from tuner.commands.named_before import named_options, named_study
from tuner.planning import plan as plans
from tuner.planning.command_line import parse_stored, resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.store.known_storages import storage_to_read
from tuner.store.lease_claims import BEAT_S, Claim, Watch, read_claims
from tuner.store.plan_file import begun
from tuner.store.restart import Restart, announced
from tuner.store.run_folder import RunFolder, all_runs
from tuner.store.stored_facts import EVALUATION, by_trial, last_epochs
from tuner.store.trial_reader import read_trials

CLAIM_WAIT_S = 2.5 * BEAT_S  # how long a claim of another machine is watched for a renewal


class RunState(StrEnum):
    """State of a run.

    SILENT: its driver is on another machine and has not renewed its claim. RESTARTING: its driver has died or halted,
    and its supervisor starts the next one after a pause.
    """

    RUNNING = "running"
    SILENT = "silent"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    RESTARTING = "restarting"


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the training that is left.

    Attributes:
        seconds: of wall time; None if no epoch has been measured.
        epochs: that are left to train.
        per_epoch: measured seconds of an epoch, mean over `measured` epochs.
        concurrency: trials at a time.
    """

    seconds: float | None
    epochs: float
    per_epoch: float
    measured: int
    concurrency: int


@dataclass(frozen=True)
class RunSnapshot:
    """A run as it was stored when it was read.

    Attributes:
        facts: `plan.json` without the plan.
        original: the run of which this folder is a copy, None if it is none; only that one is driven and goes on.
        claim: of the driver that runs it, or of the last one if that was killed.
        records: every trial, lane by lane, the confirm stage last.
        notes: facts stored under the search: evaluations, the reference's metrics.
    """

    folder: RunFolder
    plan: Plan
    facts: dict[str, Any]
    original: RunFolder | None
    state: RunState
    claim: Claim | None
    records: Sequence[TrialRecord]
    notes: dict[str, Any]

    def lane(self, name: str) -> list[TrialRecord]:
        return [record for record in self.records if record.lane == name]

    def counts(self, lane: str) -> Counter[State]:
        return Counter(record.state for record in self.lane(lane))

    @property
    def reason(self) -> str:
        """Return why the run has failed, or ""."""
        return str((self.facts.get("ended") or {}).get("reason", ""))

    @property
    def restart(self) -> Restart | None:
        """Return the restart that is to come, if the run is RESTARTING."""
        return announced(self.facts) if self.state is RunState.RESTARTING else None

    @property
    def stage(self) -> str:
        """Return the stage that runs, or in which the driver was killed; "" if it is not known."""
        return str(self.claim.about.get("stage", "")) if self.claim else ""

    @property
    def total(self) -> int:
        """Return how many trials the searches are to have."""
        return sum(lane.trials for lane in self.plan.lanes)

    @property
    def ended(self) -> int:
        """Return how many trials of the searches have ended."""
        return sum(r.lane != "confirm" and r.state is not State.RUNNING for r in self.records)

    @cached_property
    def best(self) -> TrialRecord | None:
        """Return the best complete trial of the search that meets the floors."""
        reference = self.notes.get("reference", {})
        return best_feasible(self.lane("search"), self.plan.objectives, self.judged_floors, reference)

    @property
    def judged_floors(self) -> Sequence[Floor]:
        """Return the floors that can be judged yet: the pretrained classifier's value may not be known."""
        reference = self.notes.get("reference", {})
        return [f for f in self.plan.floors if f.below_reference is None or f.metric in reference]

    @property
    def tests(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics} of the trials that have been scored on the test splits."""
        return by_trial(self.notes, EVALUATION)

    @property
    def last_epochs(self) -> dict[str, dict[str, float]]:
        """Return {trial key: test metrics after the last epoch} of trials that are judged by an earlier one."""
        return last_epochs(self.notes)

    @property
    def evaluated(self) -> frozenset[str]:
        """Return the keys of the trials that have been scored on the test splits."""
        return frozenset(self.tests)

    @property
    def to_confirm(self) -> int:
        """Return how many trials the confirm stage is to have; an arm without a feasible winner will be left out."""
        return (len(self.plan.arms) + 1) * self.plan.confirm_seeds if "confirm" in self.plan.stages else 0

    @property
    def confirmed(self) -> int:
        """Return how many trials of the confirm stage are complete and of the present winner."""
        old = set(self.notes.get("superseded", []))
        return sum(r.state is State.COMPLETE and r.key not in old for r in self.lane("confirm"))

    @property
    def time_left(self) -> TimeLeft:
        """Estimate the training that is left from the measured seconds per epoch.

        A trial that has not begun counts the mean epochs of those that have ended (early stopping included), a
        running one all that it has left. Evaluation, report and the start of workers are not in it.
        """
        ended = [r for r in self.records if r.lane != "confirm" and r.state in (State.COMPLETE, State.PRUNED)]
        fewest, most = plans.expected_epochs(self.plan)
        mean = sum(r.epochs for r in ended) / len(ended) if ended else (fewest + most) / 2 / self.total
        epochs = 0.0
        if "search" in self.plan.stages:
            epochs += sum(max(0, p.trials - len(self.lane(p.name))) for p in self.plan.lanes) * mean
        running = [r for r in self.records if r.state is State.RUNNING]
        begun = sum(r.lane == "confirm" for r in running)
        epochs += sum(self.plan.max_epochs - r.epochs for r in running)
        epochs += max(0, self.to_confirm - self.confirmed - begun) * self.plan.max_epochs
        measured = [
            e.metrics["seconds"] for r in self.records for e in r.history.values() if "seconds" in e.metrics
        ]
        per_epoch = sum(measured) / len(measured) if measured else 0.0
        said = self.claim.about.get("concurrency") if self.claim else None
        if type(said) is not int or said < 1:  # a claim may hold anything
            said = self.plan.concurrency
        concurrency = int(said or 1)
        seconds = epochs * per_epoch / concurrency if measured else None
        return TimeLeft(seconds, epochs, per_epoch, len(measured), concurrency)

    @property
    def resume_command(self) -> str:
        """Return the command that continues the run (of a copy: the original), with the options of its last launch.

        Once every trial of the search has ended without a winner it asks for more of them: without, it would end the
        same way.
        """
        try:
            options = parse_stored(self.facts["commands"][-1])
        except (UsageError, KeyError, IndexError):  # of another version
            options = LaunchOptions()
        driven = self.original or self.folder
        stored = self.facts.get("study_storage")
        kept = replace(named_options(options), storage=driven.root, study_storage=stored)
        more = None if self.best or self.plan.trains_one else trials_to_add(self.plan, self.lane("search"))
        return resume_command(named_study(self.plan), driven.name, kept, more)


@dataclass(frozen=True)
class UnreadRun:
    """A run whose state cannot be told.

    Attributes:
        reason: why, in one line.
        damaged: what is stored of it is not what was written; otherwise it is out of reach for now.
    """

    name: str
    reason: str
    damaged: bool

    def __str__(self) -> str:
        return f"run {self.name}: {self.reason}"


def read_run(
    name: str,
    root: str,
    study_storage: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RunSnapshot:
    """Return a snapshot of a run.

    Args:
        study_storage: the database; default the one that the run was started with.

    Raises:
        UsageError: no such run, or its storage cannot be read.
    """
    folder = RunFolder(root, name)
    with _told(folder):
        plan, facts = folder.read()
        url = storage_to_read(folder, study_storage, facts.get("study_storage"))
        snapshot = _read(folder, plan, facts, url, {})
    (snapshot,) = _with_live_drivers([snapshot], sleep)
    return snapshot


def read_runs(
    root: str,
    study: str | None = None,
    study_storage: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[RunSnapshot], list[UnreadRun]]:
    """Return a snapshot of every run below a root, oldest first, and those that cannot be read."""
    runs, unread = [], []
    away: dict[str, UsageError] = {}  # servers that do not answer: each is waited for once
    for folder, data in all_runs(root):
        if study and data["plan"].get("study") not in (study, None):
            continue
        try:
            if "error" in data:
                raise data["error"]
            with _told(folder):
                url = storage_to_read(folder, study_storage, data.get("study_storage"))
                if url in away:
                    raise away[url]
                runs.append(_read(folder, folder.plan_in(data), data, url, away))
        except UsageError as error:
            unread.append(UnreadRun(folder.name, str(error), isinstance(error, Damaged)))
    return _with_live_drivers(runs, sleep), unread


@contextmanager
def _told(folder: RunFolder) -> Iterator[None]:
    """Turn what the system refuses to do with the files of a run into a UsageError of one line."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder.uri} cannot be read: {one_line(error.strerror or error)}"
        ) from error


def _read(
    folder: RunFolder, plan: Plan, data: dict[str, Any], url: str, away: dict[str, UsageError]
) -> RunSnapshot:
    original = folder.original(data)
    copied = original is not None  # with the claims of the original's drivers
    claim = None if copied else next(iter(read_claims(folder.files)), None)
    try:
        records, notes = read_trials(url, plan, begun(data))
    except UsageError as error:
        if sqlite_file(url) is None and not isinstance(error, Damaged):
            away[url] = error
        raise
    facts = {key: value for key, value in data.items() if key != "plan"}
    if copied:
        facts["restart"] = None
    return RunSnapshot(folder, plan, facts, original, _state(facts, claim), claim, records, notes)


def _state(facts: dict[str, Any], claim: Claim | None) -> RunState:
    alive = claim.is_alive() if claim else False
    if alive is not False:
        return RunState.RUNNING if alive else RunState.SILENT
    if facts.get("finished"):
        return RunState.DONE
    if announced(facts):
        return RunState.RESTARTING
    ended = (facts.get("ended") or {}).get("state", "")
    return RunState(ended) if ended in ("done", "failed") else RunState.INTERRUPTED


def _with_live_drivers(runs: list[RunSnapshot], sleep: Callable[[float], None]) -> list[RunSnapshot]:
    """Watch the claims of silent drivers for a while; return the runs with those RUNNING whose claim was renewed."""
    silent = {s.folder.name for s in runs if s.state is RunState.SILENT}
    watch = Watch()
    waited = 0.0
    alive: dict[str, Claim] = {}
    while silent and waited <= CLAIM_WAIT_S:
        for run in runs:
            if run.folder.name in silent:
                with suppress(OSError):  # it was readable a moment ago; the state stays as it was
                    for claim in read_claims(run.folder.files)[:1]:
                        if watch.is_alive(claim):
                            alive[run.folder.name] = claim
                            silent.discard(run.folder.name)
        sleep(BEAT_S / 6)
        waited += BEAT_S / 6
    return [
        replace(s, state=RunState.RUNNING, claim=alive[s.folder.name]) if s.folder.name in alive else s
        for s in runs
    ]
