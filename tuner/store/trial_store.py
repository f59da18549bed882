"""The trials of one search in the Optuna study storage: create, record an epoch, end.

A lane is one search of a run (the study's own, or that of a baseline arm) or its confirm stage; each lane is one Optuna
study. `tuner.store.trial_reader` reads them without writing.
"""

import datetime
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from trainables.base.seeds import derive_seed
from tuner.base.checksums import MARK, with_checksum
from tuner.base.records import Decision, Epoch, Observation, State, TrialRecord, TrialRole
from tuner.search import samplers
from tuner.search.sampler_specs import DRAWS
from tuner.search.sampler_study import Drawn, SamplerStudy, constraint_attributes
from tuner.store.trial_format import (
    END,
    PRUNED,
    TRIAL,
    created_with,
    end_of,
    facts_of,
    record_of,
    stop_reason,
)

METRIC_NAMES = "study:metric_names"  #: attribute of Optuna's, which has no public name


def to_distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Float):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    return IntDistribution(domain.low, domain.high, log=domain.log)


def space_size(space: Mapping[str, Domain]) -> float:
    """Return how many different configurations a space has; inf if any parameter is real."""
    size = 1.0
    for domain in space.values():
        if isinstance(domain, Float):
            return math.inf
        size *= len(domain.options) if isinstance(domain, Choice) else domain.high - domain.low + 1
    return size


class TrialStore:
    """The trials of one lane: parameters, epochs, decisions and states, in one Optuna study.

    Written through Optuna's public storage interface, in an order that a kill cannot break: a trial is created in one
    transaction, an epoch is one attribute, and at the end the state comes last. A trial killed before that is still
    RUNNING, and ending it again writes the same.

    Only one driver may write. It remembers what it wrote and never reads it back: Optuna would read every running
    trial with all its epochs, 3 ms and more a time.

    Args:
        storage: of Optuna, see `tuner.store.database.open_storage`.
        name: of the Optuna study, created if there is none.
        lane: its name within the run.
        role: of its trials, unless one says otherwise.
        space: the searched parameters.
        seed: of the study.
        sampler: a name of `tuner.search.sampler_specs.SAMPLERS`.
        prior: observations of earlier runs that the sampler starts with.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        lane: str,
        role: TrialRole,
        space: Mapping[str, Domain],
        objectives: Sequence[Objective],
        seed: int,
        sampler: str = "tpe",
        prior: Sequence[Observation] = (),
    ) -> None:
        self.lane, self.role, self.seed = lane, role, seed
        self.objectives = tuple(objectives)
        self.space = {key: to_distribution(domain) for key, domain in sorted(space.items())}
        self.size = space_size(space)
        directions = [StudyDirection[o.direction.upper()] for o in self.objectives]
        optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        self._storage = optuna.storages.get_storage(storage)
        self._study_id = storage.get_study_id_from_name(name)
        self._name_objectives()
        self._finite = bool(space) and not math.isinf(self.size)
        self._ids: dict[int, int] = {}  # {number of a running trial: its id in the storage}
        self._records: dict[int, TrialRecord] = {}
        self._tried = {_fingerprint(o.params) for o in prior}
        if self._finite:  # the stream is called "walk": another name would change every grid search
            self._grid_order = samplers.grid_order(self.space, derive_seed(seed, "walk", lane))
            self._next = next(self._grid_order)
        self._sampler_study = SamplerStudy(sampler, self.space, directions, prior)
        trials = storage.get_all_trials(self._study_id, deepcopy=False)
        attributes = storage.get_study_user_attrs(self._study_id)
        if not trials and not attributes:
            storage.set_study_user_attr(self._study_id, MARK, name)
        self._facts = facts_of(attributes, lane)
        for frozen in trials:
            self._restore(frozen, MARK in attributes)

    def _name_objectives(self) -> None:
        """Tell Optuna's plots what the objectives are called, as `Study.set_metric_names` would."""
        names = [objective.metric for objective in self.objectives]
        if self._storage.get_study_system_attrs(self._study_id).get(METRIC_NAMES) != names:
            self._storage.set_study_system_attr(self._study_id, METRIC_NAMES, names)

    def _restore(self, frozen: FrozenTrial, with_checksums: bool) -> None:
        """Take up a stored trial."""
        self._records[frozen.number] = record_of(frozen, self.lane, self.role, with_checksums)
        self._sampler_study.restore(frozen.number, frozen.params, frozen.system_attrs)
        self._tried.add(_fingerprint(frozen.params))
        if frozen.state == TrialState.RUNNING:
            self._ids[frozen.number] = self._storage.get_trial_id_from_study_id_trial_number(
                self._study_id, frozen.number
            )
        else:
            violations = {k: v for k, v in frozen.constraints.items() if k != PRUNED}
            self._sampler_study.end(frozen.number, self._observed(frozen.number, violations))

    # -- reading ---------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial in the order of its number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def count(self) -> int:
        """How many trials there are."""
        return len(self._records)

    def record(self, number: int) -> TrialRecord:
        return self._records[number]

    def _observed(self, number: int, violations: Mapping[str, float]) -> Observation | None:
        """Return what the sampler learns from an ended trial; None if it failed."""
        record = self._records[number]
        if record.state is State.FAIL:
            return None
        return Observation(
            params=record.params,
            values=tuple(record.judged[o.metric] for o in self.objectives),
            epochs=record.epochs,
            pruned=record.state is State.PRUNED,
            violations=violations,
        )

    # -- writing ---------------------------------------------------------------------------------------

    def ask(self, begin: Callable[[int, Mapping[str, Any]], Mapping[str, Any]]) -> TrialRecord | None:
        """Create the next trial, RUNNING and started once, in one transaction; None if every configuration was tried.

        The sampler is seeded by (study seed, lane, trial number): the same history gives the same
        suggestion, whether or not the driver was restarted in between. It draws in a study in memory, so that a
        kill leaves a whole trial in the storage or none. A configuration of a finite space is never tried twice.

        Args:
            begin: called with (number, searched parameters), returns the trial's other attributes:
                configuration, seed and, where they differ from the lane's, role, arm, seed_index.

        Raises:
            RuntimeError: another driver has added a trial.
        """
        number = len(self._records)
        drawn = self._draw(number)
        if drawn is None:
            return None
        params = dict(drawn.params)
        attributes = self._sampler_study.keep(number, drawn)
        about = {**begin(number, params), "starts": [_now()]}
        created = created_with(params, self.space, attributes)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.space,
            user_attrs={TRIAL: with_checksum(about, self.lane, number, TRIAL, *created)},
            system_attrs=attributes,
        )
        trial_id = self._storage.create_new_trial(self._study_id, template)
        # of the new trial's id and number Optuna remembers this way round; the other would read the whole trial
        if self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number) != trial_id:
            raise RuntimeError(
                f"lane {self.lane} got a trial from elsewhere; does another driver write this run?"
            )
        self._ids[number] = trial_id
        self._tried.add(_fingerprint(params))
        template.number = number
        self._records[number] = record_of(template, self.lane, self.role)
        return self._records[number]

    def _draw(self, number: int) -> Drawn | None:
        """Return a trial of the sampler's study with the next parameters, or None if the space is exhausted."""
        if self._finite and len(self._tried) >= self.size:
            return None
        spec = self._sampler_study.spec
        for attempt in range(0 if spec.grid else spec.draws):
            drawn = self._sampler_study.draw(self._sampler_seed(number, attempt))
            if not self.space or _fingerprint(drawn.params) not in self._tried:
                return drawn
            self._sampler_study.discard(drawn)
        if not self._finite:
            return self._sampler_study.draw_at_random(self._sampler_seed(number, DRAWS))
        while _fingerprint(self._next) in self._tried:
            self._next = next(self._grid_order)
        return self._sampler_study.place(self._next)

    def _sampler_seed(self, number: int, attempt: int) -> int:
        return derive_seed(self.seed, "sampler", self.lane, number, attempt) % 2**32

    def begin_attempt(self, number: int) -> TrialRecord:
        """Count one more start of a trial that was started before."""
        record = self._records[number]
        starts = (*record.starts, _now())
        self._set(number, "starts", list(starts))
        self._records[number] = replace(record, starts=starts, attempt=len(starts))
        return self._records[number]

    def report(
        self,
        number: int,
        epoch: int,
        metrics: Mapping[str, float],
        decision: Decision,
        checkpoint: str,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Record one epoch; an epoch that is already there keeps what it says."""
        record = self._records[number]
        if epoch in record.history:
            return
        entry: dict[str, Any] = {
            "metrics": dict(metrics),
            "decision": decision.value,
            "checkpoint": checkpoint,
        }
        if place is not None:
            entry["place"] = place
        self._set(number, f"epoch/{epoch}", entry)
        known = Epoch({k: float(v) for k, v in metrics.items()}, decision, checkpoint, place)
        self._records[number] = replace(record, history={**record.history, epoch: known})

    def judge(self, number: int, epoch: int) -> None:
        """Judge a running trial by an epoch; stored when it ends as COMPLETE."""
        self._records[number] = replace(self._records[number], judged_epoch=epoch)

    def finish(
        self, number: int, state: State, reason: str = "", violations: Mapping[str, float] | None = None
    ) -> None:
        """End a trial: COMPLETE with the objectives of the epoch it is judged by, PRUNED, or FAIL with its reason.

        Args:
            violations: {floor: how far that epoch is below it}; above 0 marks the trial infeasible.

        Raises:
            UpdateFinishedTrialError: another driver has ended it.
        """
        if state is State.FAIL:
            self.judge(number, 0)
        trial_id, record, stored = self._ids[number], self._records[number], TrialState[state.value]
        constraints = dict(violations or {})
        if state is State.PRUNED and len(self.objectives) > 1:
            # Optuna forbids PRUNED with several objectives: complete, with its values, and infeasible
            constraints[PRUNED] = 1.0
            stored = TrialState.COMPLETE
        reason = stop_reason(record.epochs) if state is State.PRUNED else reason[:2000]
        complete = stored is TrialState.COMPLETE
        values = [record.judged[o.metric] for o in self.objectives] if complete else None
        end = end_of(stored, reason, record.epochs, values, constraints, record.judged_epoch)
        self._set(number, END, end)
        for key, value in constraint_attributes(constraints).items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, stored, values)
        del self._ids[number]
        self._records[number] = replace(record, state=state, reason=reason)
        self._sampler_study.end(number, self._observed(number, violations or {}))

    def _set(self, number: int, key: str, value: Any) -> None:
        stored = with_checksum(value, self.lane, number, key)
        self._storage.set_trial_user_attr(self._ids[number], key, stored)

    # -- facts of the whole run ------------------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        """Store a fact (the reference's metrics, an evaluation) under the lane; JSON values only."""
        self._storage.set_study_user_attr(self._study_id, key, with_checksum(value, self.lane, key))
        self._facts[key] = json.loads(json.dumps(value))  # what reading it back would give

    def notes(self) -> dict[str, Any]:
        """Return the stored facts; kept in memory, as nobody else writes while a driver holds the run."""
        return dict(self._facts)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _fingerprint(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def importances(storage: optuna.storages.BaseStorage, name: str) -> dict[str, float]:
    """Return each searched parameter's share of the first objective's variance; empty with under 4 finished trials.

    Source:
        PED-ANOVA (Watanabe et al. 2023), Optuna's default.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4 or len({t.values[0] for t in complete}) < 2:
        return {}
    target = None if len(study.directions) == 1 else (lambda t: t.values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(optuna.importance.get_param_importances(study, target=target))
