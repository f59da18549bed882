"""The study's storage: ask, report, tell. The only file that imports optuna, and the only truth there is."""

import itertools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from search_spaces.domain import Choice, Domain, Float
from search_spaces.study import Objective
from trainables.seeds import derive_seed
from tuner.errors import UsageError
from tuner.records import Decision, Epoch, Role, State, TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAIL,
    TrialState.RUNNING: State.RUNNING,
}
_DUPLICATE_TRIES = 32


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open (or create) the study's database.

    A local SQLite file is put into write-ahead mode: a tenth of the default's cost per write, and still no
    transaction is lost when the process is killed.

    Raises:
        UsageError: the URL cannot be opened.
    """
    try:
        if not url.startswith("sqlite"):
            return optuna.storages.RDBStorage(url)
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
        raise UsageError(f"cannot open the study storage {_without_password(url)}: {reason}") from error


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest else url


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


class LaneStore:
    """One lane of a run: one Optuna study, whose trials hold parameters, epochs, decisions and states.

    Every method is one durable transaction or an idempotent sequence of them. Only one driver may write.
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
    ) -> None:
        self.lane, self.role, self.seed = lane, role, seed
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
        self._finite = bool(space) and not math.isinf(self.size)
        self._live: dict[int, Trial] = {}
        self._records: dict[int, TrialRecord] = {}
        self._mirror = optuna.create_study(directions=self._directions)
        self._mirrored: dict[int, Trial] = {}
        for frozen in self._study.get_trials(deepcopy=False):
            self._mirror.add_trial(frozen)
            if frozen.state == TrialState.RUNNING:
                self._adopt(frozen.number)
                copy = self._mirror.get_trials(deepcopy=False)[frozen.number]
                self._mirrored[frozen.number] = Trial(self._mirror, copy._trial_id)
            else:
                self._records[frozen.number] = self._record(frozen)

    # -- reading ---------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial in the order of its number."""
        return [self._records[number] for number in sorted(self._records)]

    def record(self, number: int) -> TrialRecord:
        return self._records[number]

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        attrs = frozen.user_attrs
        history = {
            int(key.removeprefix("epoch/")): Epoch(
                {k: float(v) for k, v in value["metrics"].items()},
                Decision(value["decision"]),
                value["checkpoint"],
            )
            for key, value in attrs.items()
            if key.startswith("epoch/")
        }
        return TrialRecord(
            lane=self.lane,
            number=frozen.number,
            role=Role(attrs.get("role", self.role.value)),
            state=State.PRUNED if attrs.get("pruned") else _STATES[frozen.state],
            params=dict(frozen.params),
            configuration=attrs.get("configuration", {}),
            seed=attrs.get("seed", 0),
            history=dict(sorted(history.items())),
            reason=attrs.get("reason", ""),
            attempt=attrs.get("attempt", 0),
            method=attrs.get("method", ""),
            arm=attrs.get("arm", ""),
            seed_index=attrs.get("seed_index", -1),
        )

    def _refresh(self, number: int) -> TrialRecord:
        # the study's own cache, not a copy of a thousand trials
        trial = self._study.get_trials(deepcopy=False)[number]
        self._records[number] = self._record(trial)
        return self._records[number]

    # -- writing ---------------------------------------------------------------------------------------

    def ask(self, begin: Callable[[int, Mapping[str, Any]], Mapping[str, Any]]) -> TrialRecord | None:
        """Create the next trial, RUNNING, in one transaction; None if every configuration was tried.

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
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=self.space,
                user_attrs=dict(begin(number, params)),
            )
        )
        self._mirrored[number] = drawn
        return self._adopt(number)

    def _adopt(self, number: int) -> TrialRecord:
        frozen = self._study.get_trials(deepcopy=False)[number]
        # a public Trial object over an existing id: how an interrupted trial is taken up again
        self._live[number] = Trial(self._study, frozen._trial_id)
        return self._refresh(number)

    def _draw(self, number: int) -> Trial | None:
        """Return a mirror trial with the next parameters, or None if the space is exhausted."""
        tried = {_fingerprint(r.params) for r in self._records.values()} if self._finite else set()
        if self._finite and len(tried) >= self.size:
            return None
        for attempt in range(_DUPLICATE_TRIES):
            self._mirror.sampler = self._sampler(number, attempt)
            drawn = self._mirror.ask(fixed_distributions=self.space)
            if not self._finite or _fingerprint(drawn.params) not in tried:
                return drawn
            self._mirror.tell(drawn, state=TrialState.FAIL)  # failed trials teach the sampler nothing
        for combination in itertools.product(*(_values(d) for d in self.space.values())):
            walk = dict(zip(self.space, combination, strict=True))
            if _fingerprint(walk) not in tried:
                self._mirror.enqueue_trial(walk)
                return self._mirror.ask(fixed_distributions=self.space)
        raise AssertionError("a space with untried configurations has none")

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = derive_seed(self.seed, "sampler", self.lane, number, attempt) % 2**32
        return optuna.samplers.TPESampler(seed=seed)

    def begin_attempt(self, number: int) -> TrialRecord:
        """Count one more start of a trial."""
        self._live[number].set_user_attr("attempt", self._records[number].attempt + 1)
        return self._refresh(number)

    def report(
        self, number: int, epoch: int, metrics: Mapping[str, float], decision: Decision, checkpoint: str
    ) -> None:
        """Record one epoch; an epoch that is already there keeps what it says."""
        if epoch in self._records[number].history:
            return
        trial = self._live[number]
        entry = {"metrics": dict(metrics), "decision": decision.value, "checkpoint": checkpoint}
        trial.set_user_attr(f"epoch/{epoch}", entry)
        if len(self.objectives) == 1:
            value = metrics[self.objectives[0].metric]
            if epoch not in self._study._storage.get_trial(trial._trial_id).intermediate_values:
                trial.report(value, epoch)
        self._refresh(number)

    def finish(
        self, number: int, state: State, reason: str = "", violations: Mapping[str, float] | None = None
    ) -> None:
        """End a trial: COMPLETE with the objectives of its last epoch, PRUNED, or FAIL with its reason.

        Args:
            violations: {floor: how far the last epoch is below it}; above 0 marks the trial infeasible.
        """
        trial = self._live.pop(number)
        record = self._records[number]
        if reason:
            trial.set_user_attr("reason", reason[:2000])
        for name, amount in (violations or {}).items():
            self._constrain(trial, name, amount)
        values = [record.last[o.metric] for o in self.objectives] if state is State.COMPLETE else None
        stored = TrialState[state.value]
        if state is State.PRUNED and len(self.objectives) > 1:
            # Optuna forbids PRUNED with several objectives: keep the values, let the sampler see an infeasible trial
            trial.set_user_attr("pruned", True)
            self._constrain(trial, "pruned", 1.0)
            stored, values = TrialState.COMPLETE, [record.last[o.metric] for o in self.objectives]
        self._study.tell(trial, values, state=stored, skip_if_finished=True)
        self._refresh(number)
        self._mirror_end(number, values, stored)

    @staticmethod
    def _constrain(trial: Trial, name: str, amount: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # set already by a driver that was killed before it told the state
            trial.set_constraint(name, amount)

    def _mirror_end(self, number: int, values: list[float] | None, state: TrialState) -> None:
        """Let the sampler's mirror know what the storage knows of a finished trial."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        copy = self._mirrored.pop(number)
        for key, amount in frozen.constraints.items():
            self._constrain(copy, key, amount)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mirror built at a resume has the earlier steps already
            for step, value in frozen.intermediate_values.items():
                copy.report(value, step)
        self._mirror.tell(copy, values, state=state)

    # -- facts of the whole run ------------------------------------------------------------------------

    def note(self, key: str, value: Any) -> None:
        """Store a fact (the reference's metrics, an evaluation) under the lane; JSON values only."""
        self._study.set_user_attr(key, value)

    def notes(self) -> dict[str, Any]:
        return dict(self._study.user_attrs)


def _fingerprint(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1))


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
