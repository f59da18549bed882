"""Samplers by name: what they suggest depends on the stored history alone, whatever was killed in between."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search_spaces.domain import Choice, Domain, Float, Int
from search_spaces.study import Objective
from tests.unit.tuner.execution.test_trial_queue import (
    FLOOR,
    OBJECTIVE,
    Storage,
    drive,
    killed_until_through,
    queue_of,
    truth,
)
from tuner.base.records import Decision, Observation, State, TrialRole
from tuner.execution.trial_queue import Lane
from tuner.search.sampler_specs import SAMPLERS
from tuner.search.samplers import POPULATION, CmaSampler, grid_order, sort_key
from tuner.search.schedulers import schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

NUMBERS: dict[str, Domain] = {
    "lr": Float(1e-4, 1e-1, log=True),
    "steps": Int(1, 5),
    "weight": Float(0.0, 1.0),
}
LISTED: dict[str, Domain] = {"lr": Choice((1e-4, 1e-3, 1e-2, 1e-1)), "steps": Int(1, 5)}
MIXED: dict[str, Domain] = {**NUMBERS, "attack": Choice(("a", "b"))}
COST = Objective("val/cost", "minimize")


def space_for(sampler: str) -> dict[str, Domain]:
    """Return a space that a sampler can search."""
    spec = SAMPLERS[sampler]
    return LISTED if spec.listed_values_only else NUMBERS if spec.numbers_only else MIXED


class Sampled(Storage):
    """One lane with a sampler over one database file, opened anew like a new process would."""

    def __init__(self, path: Path, sampler: str, trials: int, prior: Sequence[Observation] = ()) -> None:
        super().__init__(path)
        self.sampler, self.trials, self.prior = sampler, trials, prior

    def lanes(self, *_: Any, **__: Any) -> list[Lane]:
        space = space_for(self.sampler)
        store = TrialStore(
            open_storage(self.url),
            "s",
            "search",
            TrialRole.SEARCH,
            space,
            [OBJECTIVE],
            3,
            self.sampler,
            self.prior,
        )
        self._arm(store)
        return [Lane(store, "aoe", {"fixed": 1}, self.trials, 3)]


def run_through(storage: Storage, rule: str) -> list[tuple[Any, ...]]:
    for _ in drive(queue_of(storage.lanes(), schedule=schedule(rule, 1, 2, 4))):
        pass
    return truth(storage.lanes())


def observed(count: int) -> list[Observation]:
    """Return observations of an earlier run around lr 10**-2.5."""
    return [
        Observation(
            {
                "lr": 10 ** -(1.2 + 0.2 * k),
                "steps": 1 + k % 5,
                "weight": 0.1 * (k % 9),
                "attack": "ab"[k % 2],
            },
            (1 - abs(1.3 - 0.2 * k),),
            epochs=4 if k % 3 else 1,
            pruned=k % 3 == 0,
            violations={FLOOR.metric: -0.05},
        )
        for k in range(count)
    ]


#: {sampler: (scheduler, trials, writes between two kills)}; so many trials that the last ones come from the model: 10
#: complete ones for tpe and gp, a generation for the others
KILLED = {
    "tpe": ("median", 16, 8),
    "tpe-multivariate": ("asha", 16, 8),
    "cmaes": ("asha", 18, 8),
    "gp": ("asha", 14, 20),
    "nsga2": ("asha", 24, 8),
    "random": ("none", 6, 8),
    "grid": ("median", 12, 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS.names)
def test_killed_and_resumed_suggests_the_same(tmp_path: Path, sampler: str) -> None:
    """Kill every few writes to the database until the search is through; compare every trial with a whole run."""
    rule, trials, stride = KILLED[sampler]
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = run_through(Sampled(tmp_path / "whole", sampler, trials), rule)
    assert len(whole) == trials
    storage = Sampled(tmp_path / "cut", sampler, trials)
    lives = killed_until_through(storage, stride, 500, schedule=schedule(rule, 1, 2, 4))
    assert truth(storage.lanes()) == whole
    assert lives > 2


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2"])
def test_what_an_earlier_run_knew_changes_the_search_and_survives_a_restart(
    tmp_path: Path, sampler: str
) -> None:
    prior = observed(12)
    if sampler == "cmaes":
        prior = [
            Observation({k: v for k, v in o.params.items() if k in NUMBERS}, o.values, o.epochs)
            for o in prior
        ]
    found = []
    for name, given in (("without", ()), ("with", prior), ("again", prior)):
        (tmp_path / name).mkdir()
        storage = Sampled(tmp_path / name, sampler, 4, given)
        if name == "again":  # a launch for each trial
            for trials in range(1, 4):
                storage.trials = trials
                run_through(storage, "none")
            storage.trials = 4
        found.append([row[2] for row in run_through(storage, "none")])
    assert found[0] != found[1] == found[2]


def ask(store: TrialStore) -> int | None:
    record = store.ask(lambda number, params: {"configuration": dict(params), "seed": number})
    return None if record is None else record.number


def store_of(
    sampler: str,
    space: Mapping[str, Domain],
    prior: Sequence[Observation] = (),
    objectives: Sequence[Objective] = (OBJECTIVE,),
    storage: optuna.storages.BaseStorage | None = None,
) -> TrialStore:
    """Return a lane in memory, or of a storage that may hold it already."""
    memory = storage or optuna.storages.InMemoryStorage()
    return TrialStore(memory, "s", "search", TrialRole.SEARCH, space, objectives, 0, sampler, prior)


@pytest.mark.parametrize("sampler", ["tpe", "tpe-multivariate", "cmaes", "gp", "nsga2"])
def test_a_floor_keeps_the_sampler_out_of_the_infeasible_half(sampler: str) -> None:
    """The score is x, the floor forbids x > 1/2: late suggestions lie lower than without the floor. Seeded."""
    trials, late = (16, 5) if sampler == "gp" else (40, 10)
    means = []
    for floored in (False, True):
        store = store_of(sampler, {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
        for number in range(trials):
            assert ask(store) == number
            x = store.record(number).params["x"]
            store.report(number, 1, {"val/score": x}, Decision.DONE, "c")
            store.finish(number, State.COMPLETE, violations={"floor": x - 0.5} if floored else None)
        means.append(sum(r.params["x"] for r in store.records()[-late:]) / late)
    assert means[1] < 0.55
    assert means[0] > means[1] + 0.15


@pytest.mark.parametrize(
    "sampler", [s.name for s in SAMPLERS if not (s.one_objective or s.listed_values_only)]
)
def test_several_objectives(sampler: str) -> None:
    """Complete, stopped and failed trials in turn, with a floor; the next one is suggested and a restart agrees."""
    storage = optuna.storages.InMemoryStorage()
    store = store_of(sampler, MIXED, observed_twice(), (OBJECTIVE, COST), storage)
    for number in range(13):
        assert ask(store) == number
        values = {"val/score": number / 10, "val/cost": float(number % 4)}
        store.report(number, 1, values, Decision.DONE, "c")
        state = (State.COMPLETE, State.COMPLETE, State.PRUNED, State.FAIL)[number % 4]
        floors = None if state is State.FAIL else {"floor": 0.1 if number % 5 == 0 else -0.1}
        store.finish(number, state, "", floors)
    again = store_of(sampler, MIXED, observed_twice(), (OBJECTIVE, COST), storage)
    assert again._draw(13).params == store._draw(13).params  # type: ignore[union-attr]


def observed_twice() -> list[Observation]:
    return [
        Observation(o.params, (o.values[0], 1.0), o.epochs, o.pruned, {"floor": -0.1}) for o in observed(3)
    ]


def test_grid_tries_everything_once_and_nothing_that_is_known() -> None:
    known = [
        Observation({"lr": 1e-3, "steps": 2}, (0.5,), 4),
        Observation({"lr": 1e-2, "steps": 5}, (0.6,), 4),
    ]
    store = store_of("grid", LISTED, known)
    while ask(store) is not None:
        pass
    seen = [(r.params["lr"], r.params["steps"]) for r in store.records()]
    assert len(seen) == len(set(seen)) == 4 * 5 - 2
    assert not {(1e-3, 2), (1e-2, 5)} & set(seen)


@pytest.mark.parametrize("sampler", [s.name for s in SAMPLERS if not s.numbers_only])
def test_no_configuration_twice_in_a_finite_space(sampler: str) -> None:
    """All but two of the six are known; the other two are suggested, then the space is exhausted."""
    space = {"lr": Choice((1e-3, 1e-2)), "steps": Int(1, 3)}
    known = [Observation({"lr": 1e-3, "steps": k}, (0.1 * k,), 1) for k in (1, 2, 3)]
    store = store_of(sampler, space, [*known, Observation({"lr": 1e-2, "steps": 1}, (0.9,), 1)])
    assert [ask(store), ask(store), ask(store)] == [0, 1, None]
    assert {r.params["steps"] for r in store.records()} == {2, 3}


def test_grid_order_by_hand() -> None:
    """6 configurations: 0.618 * 6 = 3.7, 4 shares a factor with 6, so the step is 5: numbers 0 5 4 3 2 1."""
    space = {"a": CategoricalDistribution(("x", "y")), "b": IntDistribution(1, 3)}
    order = [(c["a"], c["b"]) for c in grid_order(space, 0)]
    assert order == [("x", 1), ("y", 3), ("y", 2), ("y", 1), ("x", 3), ("x", 2)]
    assert next((c["a"], c["b"]) for c in grid_order(space, 7)) == ("x", 2)  # starts at 7 modulo 6
    big = {name: IntDistribution(1, 10**6) for name in "abc"}  # never listed
    assert all(1 <= value <= 10**6 for value in next(grid_order(big, 5)).values())


@pytest.mark.parametrize("size", range(1, 40))
def test_grid_order_visits_everything_once(size: int) -> None:
    seen = [c["a"] for c in grid_order({"a": IntDistribution(1, size)}, 11)]
    assert sorted(seen) == list(range(1, size + 1))


def trial(
    value: float, state: TrialState = TrialState.COMPLETE, violation: float = -1.0, epoch: int = 1
) -> Any:
    found = create_trial(
        state=state,
        value=value if state is TrialState.COMPLETE else None,
        intermediate_values={epoch: value},
        system_attrs={"constraints:floor": violation},
    )
    return found


def test_sort_key_by_hand() -> None:
    """Complete by loss, then stopped ones, the later first, then infeasible ones by how far they are off."""
    stopped = TrialState.PRUNED
    order = [
        trial(0.3),
        trial(0.4),
        trial(0.2, stopped, epoch=3),
        trial(0.1, stopped, epoch=1),
        trial(0.0, violation=0.01),
        trial(0.0, stopped, violation=0.02),
    ]
    assert sorted(reversed(order), key=lambda t: sort_key(t, 1)) == order
    assert sort_key(trial(0.3), -1) < sort_key(trial(0.2), -1)  # maximised


def test_cmaes_codes_numbers_on_their_own_scale() -> None:
    """1e-2 is 2/3 of the way from 1e-4 to 1e-1 in decades; 3 of 1..5 is the middle of [.5, 5.5]."""
    sampler = CmaSampler(
        {
            "lr": FloatDistribution(1e-4, 1e-1, log=True),
            "n": IntDistribution(1, 5),
            "k": IntDistribution(1, 7, log=True),
        },
        0,
    )
    point = sampler._encode({"lr": 1e-2, "n": 3, "k": 2})
    assert point == pytest.approx([2 / 3, 0.5, math.log(4) / math.log(15)])
    assert sampler._decode(point) == {"lr": pytest.approx(1e-2), "n": 3, "k": 2}
    assert sampler._decode(np.zeros(3)) == {"lr": pytest.approx(1e-4), "n": 1, "k": 1}
    assert sampler._decode(np.ones(3)) == {"lr": pytest.approx(1e-1), "n": 5, "k": 7}
    assert all(1e-4 <= sampler._decode(np.full(3, edge))["lr"] <= 1e-1 for edge in (0.0, 1.0))


def test_cmaes_finds_the_minimum_of_an_ellipsoid() -> None:
    """Against random search with the same 120 trials: at least twenty times closer (f = (x-.7)^2 + 100 (y-.2)^2)."""
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    best = {}
    for sampler in ("cmaes", "random"):
        store = store_of(sampler, space, objectives=[Objective("val/f", "minimize")])
        values = []
        for number in range(120):
            ask(store)
            p = store.record(number).params
            values.append((p["x"] - 0.7) ** 2 + 100 * (p["y"] - 0.2) ** 2)
            store.report(number, 1, {"val/f": values[-1]}, Decision.DONE, "c")
            store.finish(number, State.COMPLETE)
        best[sampler] = min(values)
    assert best["cmaes"] < best["random"] / 20


def test_side_by_side_nothing_is_suggested_twice() -> None:
    """Eight trials at a time, ending in another order than they began; a restart in the middle."""
    for sampler in ("tpe", "cmaes", "nsga2"):
        space, running, storage = space_for(sampler), [], optuna.storages.InMemoryStorage()
        store = store_of(sampler, space, storage=storage)
        for number in range(3 * POPULATION):
            assert ask(store) == number
            running.append(number)
            if number == 17:
                store = store_of(sampler, space, storage=storage)
            if len(running) == 8:
                ended = running.pop(number % 8)
                store.report(ended, 1, {"val/score": math.sin(ended)}, Decision.DONE, "c")
                store.finish(ended, State.COMPLETE)
        params = [tuple(r.params.items()) for r in store.records()]
        assert len(set(params)) == len(params) == 3 * POPULATION


def test_an_empty_space_is_no_search() -> None:
    for sampler in SAMPLERS.names:
        store = store_of(sampler, {})
        assert [ask(store), ask(store)] == [0, 1]


def test_nothing_of_a_sampler_is_pickled_into_the_database() -> None:
    """Optuna's CMA-ES stores a pickle there; a database from elsewhere must not be able to run code."""
    storage = optuna.storages.InMemoryStorage()
    store = store_of("cmaes", NUMBERS, storage=storage)
    for number in range(16):
        ask(store)
        store.report(number, 1, {"val/score": 0.1 * number}, Decision.DONE, "c")
        store.finish(number, State.COMPLETE)
    study = optuna.load_study(study_name="s", storage=storage)
    names = {key for t in study.get_trials() for key in t.system_attrs}
    assert names == {"cmaes:generation"}
    assert {t.system_attrs["cmaes:generation"] for t in study.get_trials()} == {0, 1, 2}
