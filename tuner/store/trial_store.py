"""The study's storage: ask, report, tell. The only truth there is; `tuner.store.trial_reader` reads it."""

import datetime
import json
import logging
import math
import time
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
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import DBAPIError

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from trainables.base.seeds import derive_seed
from tuner.base.errors import UsageError
from tuner.base.records import Decision, Epoch, Observation, Role, State, TrialRecord
from tuner.base.urls import with_driver, without_password
from tuner.search import samplers
from tuner.search.sampler_study import SamplerStudy
from tuner.store.rows import Rows
from tuner.store.trial_reader import PRUNED, record_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
log = logging.getLogger(__name__)

_TRIES = 32  # draws of a configuration that was tried before give way to the walk
_GP_TRIES = 2  # its optimum hardly depends on the seed, and each costs up to a second
SERVER_AWAY_S = 600.0


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open (or create) the study's database.

    A local SQLite file is put into write-ahead mode: a tenth of the default's cost per write, and still no
    transaction is lost when the process is killed.

    Raises:
        UsageError: the URL cannot be opened.
    """
    try:
        if not url.startswith("sqlite"):
            return _server_storage(url)
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        from sqlalchemy import event

        @event.listens_for(storage.engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # connections from before the listener
        return storage
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot open the study storage {without_password(url)}: {reason}") from error


def _server_storage(url: str) -> optuna.storages.RDBStorage:
    """Open a database server that may be restarted while we use it.

    Every transaction begins with a connection that answers; while none can be made the driver waits, up to
    `SERVER_AWAY_S`. What was in flight when the server went raises, see `connection_lost`.
    """
    storage = optuna.storages.RDBStorage(with_driver(url), engine_kwargs={"pool_pre_ping": True})
    from sqlalchemy import event

    @event.listens_for(storage.engine, "do_connect")  # from now on: a wrong URL has failed above, at once
    def _patiently(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        started, said = time.monotonic(), False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() - started > SERVER_AWAY_S:
                    raise
                if not said:
                    log.warning("the study's database is away (%s); waiting", str(error).splitlines()[0])
                said = True
                time.sleep(1.0)

    return storage


def connection_lost(error: BaseException) -> bool:
    """Return whether an exception says that the database server went away in the middle of a transaction."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, DBAPIError) and cause.connection_invalidated


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
    """One lane of a run: one Optuna study, whose trials hold parameters, epochs, decisions and states.

    Every method is one durable transaction or an idempotent sequence of them. Only one driver may write: what it wrote
    it knows, and reads nothing back. Optuna would read every running trial with all its epochs, 3 ms and more a time.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        lane: str,
        role: Role,
        space: Mapping[str, Domain],
        objectives: Sequence[Objective],
        seed: int,
        sampler: str = "tpe",
        prior: Sequence[Observation] = (),
    ) -> None:
        self.lane, self.role, self.seed, self.sampler = lane, role, seed, sampler
        self.objectives = tuple(objectives)
        self._directions = [StudyDirection[o.direction.upper()] for o in self.objectives]
        self.space = {key: to_distribution(domain) for key, domain in sorted(space.items())}
        self.size = space_size(space)
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=self._directions,
            sampler=optuna.samplers.RandomSampler(),
            load_if_exists=True,
        )
        self._rows = Rows(storage, self._study._study_id)
        self._finite = bool(space) and not math.isinf(self.size)
        self._ids: dict[int, int] = {}  # {number of a running trial: its id in the storage}
        self._records: dict[int, TrialRecord] = {}
        self._tried = {_fingerprint(o.params) for o in prior}
        if self._finite:
            self._grid_order = samplers.grid_order(self.space, derive_seed(seed, "walk", lane))
            self._next = next(self._grid_order)
        self._sampler_study = SamplerStudy(sampler, self.space, self._directions, prior)
        self._storage = self._study._storage
        for frozen in self._study.get_trials(deepcopy=False):
            self._sampler_study.restore(frozen.number, frozen.params, frozen.system_attrs)
            self._tried.add(_fingerprint(frozen.params))
            self._records[frozen.number] = record_of(frozen, lane, role)
            if frozen.state == TrialState.RUNNING:
                self._ids[frozen.number] = frozen._trial_id
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
        """Return what the sampler is to know of an ended trial; None if it failed."""
        record = self._records[number]
        if record.state is State.FAIL:
            return None
        return Observation(
            params=record.params,
            values=tuple(record.last[o.metric] for o in self.objectives),
            epochs=record.epochs,
            pruned=record.state is State.PRUNED,
            violations=violations,
        )

    # -- writing ---------------------------------------------------------------------------------------

    def ask(self, begin: Callable[[int, Mapping[str, Any]], Mapping[str, Any]]) -> TrialRecord | None:
        """Create the next trial, RUNNING and started once, in one transaction; None if every configuration was tried.

        The sampler is seeded by (study seed, lane, trial number): the same history gives the same
        suggestion, whether or not the driver was restarted in between. It draws on a mirror in memory, so that a
        kill leaves a whole trial in the storage or none. A configuration of a finite space is never tried twice.

        Args:
            begin: called with (number, searched parameters), returns what else the trial is made of:
                configuration, seed and, where they differ from the lane's, role, arm, seed_index.
        """
        number = len(self._records)
        drawn = self._draw(number)
        if drawn is None:
            return None
        params = dict(drawn.params)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.space,
            user_attrs={**begin(number, params), "starts": [_now()]},
            system_attrs=self._sampler_study.keep(number, drawn),
        )
        self._ids[number] = self._rows.add_trial(number, template)
        self._tried.add(_fingerprint(params))
        self._records[number] = replace(record_of(template, self.lane, self.role), number=number)
        return self._records[number]

    def _draw(self, number: int) -> Trial | None:
        """Return a mirror trial with the next parameters, or None if the space is exhausted."""
        if self._finite and len(self._tried) >= self.size:
            return None
        if self.sampler != "grid":
            for attempt in range(_GP_TRIES if self.sampler == "gp" else _TRIES):
                drawn = self._sampler_study.draw(self._sampler_seed(number, attempt))
                if not self.space or _fingerprint(drawn.params) not in self._tried:
                    return drawn
                self._sampler_study.discard(drawn)
        if not self._finite:
            return self._sampler_study.draw(self._sampler_seed(number, _TRIES), "random")
        while _fingerprint(self._next) in self._tried:
            self._next = next(self._grid_order)
        return self._sampler_study.place(self._next)

    def _sampler_seed(self, number: int, attempt: int) -> int:
        return derive_seed(self.seed, "sampler", self.lane, number, attempt) % 2**32

    def begin_attempt(self, number: int) -> TrialRecord:
        """Count one more start of a trial that was started before."""
        record = self._records[number]
        starts = (*record.starts, _now())
        self._storage.set_trial_user_attr(self._ids[number], "starts", list(starts))
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
        value = metrics[self.objectives[0].metric] if len(self.objectives) == 1 else None
        self._rows.add_epoch(self._ids[number], epoch, entry, value)
        known = Epoch({k: float(v) for k, v in metrics.items()}, decision, checkpoint, place)
        self._records[number] = replace(record, history={**record.history, epoch: known})

    def finish(
        self, number: int, state: State, reason: str = "", violations: Mapping[str, float] | None = None
    ) -> None:
        """End a trial: COMPLETE with the objectives of its last epoch, PRUNED, or FAIL with its reason.

        Args:
            violations: {floor: how far the last epoch is below it}; above 0 marks the trial infeasible.
        """
        trial_id, record, reason = self._ids.pop(number), self._records[number], reason[:2000]
        violations = dict(violations or {})
        attributes: dict[str, Any] = {"reason": reason} if reason else {}
        values = [record.last[o.metric] for o in self.objectives] if state is State.COMPLETE else None
        stored, constraints = TrialState[state.value], violations
        if state is State.PRUNED and len(self.objectives) > 1:
            # Optuna forbids PRUNED with several objectives: keep the values, let the sampler see an infeasible trial
            attributes[PRUNED] = True
            constraints = {**violations, PRUNED: 1.0}
            stored, values = TrialState.COMPLETE, [record.last[o.metric] for o in self.objectives]
        self._rows.end_trial(trial_id, stored, values, attributes, constraints)
        self._records[number] = replace(record, state=state, reason=reason)
        self._sampler_study.end(number, self._observed(number, violations))

    # -- facts of the whole run ------------------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        """Store a fact (the reference's metrics, an evaluation) under the lane; JSON values only."""
        self._study.set_user_attr(key, value)

    def notes(self) -> dict[str, Any]:
        return dict(self._study.user_attrs)


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
