"""Warm start: which trials of an earlier run are taken, which are skipped and why, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.domain import Choice, Float
from search_spaces.study import Floor, Objective
from tests.unit.study_results import CLEAN, OBJECTIVE, record
from trainables.options.methods import METHODS
from tuner.base.errors import UsageError
from tuner.base.records import Decision, Observation, State, TrialRecord, TrialRole
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.planning.amend import amend
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import LanePlan, Plan, from_dict, to_dict
from tuner.planning.resolve import resolve
from tuner.store import warm_start
from tuner.store.database import open_storage
from tuner.store.run_folder import RunFolder
from tuner.store.trial_store import TrialStore

GOAL = (Objective(OBJECTIVE),)
FLOOR = Floor(CLEAN, below_reference=0.01)
SPACE = {"lr": Float(1e-4, 1e-2, log=True), "attack.name": Choice(("pgd", "eba"))}
LANE = LanePlan("search", "search", "aoe", SPACE, {"batch_size": 64}, 5)


def of(
    number: int = 0,
    state: State = State.COMPLETE,
    values: tuple[float, ...] = (0.7, 0.8),
    **configuration: Any,
) -> TrialRecord:
    """Return a trial with these settings and, where they say nothing, one of the lane's space."""
    settings = {"lr": 1e-3, "attack.name": "pgd", "batch_size": 64, "epochs": 9, "dataset": "digits-open"}
    known = {key.replace("__", "."): value for key, value in configuration.items()}
    return record(number, values, state, configuration=settings | known)


def test_a_point_of_the_space() -> None:
    assert warm_start.params_in(LANE, of()) == {"lr": 1e-3, "attack.name": "pgd"}
    assert warm_start.params_in(LANE, of(epochs=3)) == {
        "lr": 1e-3,
        "attack.name": "pgd",
    }  # not part of the space
    assert warm_start.params_in(LANE, of(lr=0.1)) is None
    assert warm_start.params_in(LANE, of(attack__name="fgsm")) is None
    assert warm_start.params_in(LANE, of(batch_size=32)) is None  # fixed here
    assert (
        warm_start.params_in(LANE, of(attack__steps=3)) is None
    )  # neither searched nor fixed: 10, its default
    default = warm_start.fields_of(METHODS["aoe"].options)["attack.steps"][2]
    assert warm_start.params_in(LANE, of(attack__steps=default)) == {"lr": 1e-3, "attack.name": "pgd"}


def test_what_is_taken_and_what_is_skipped() -> None:
    """Accuracy .98 against .985 - .01 = .975: .005 above the floor."""
    records = [
        of(0),
        of(1, State.PRUNED, (0.6,)),
        of(2, State.FAIL),
        of(3, State.RUNNING),
        of(4, lr=1.0),
        of(5, values=()),
    ]
    taken, skipped = warm_start.observations(records, LANE, GOAL, (FLOOR,), {CLEAN: 0.985}, "old")
    params = {"lr": 1e-3, "attack.name": "pgd"}
    floor = {CLEAN: pytest.approx(-0.005)}
    assert taken == (
        Observation(params, (0.8,), 2, False, floor, "old/0000"),
        Observation(params, (0.6,), 1, True, floor, "old/0001"),
    )
    assert skipped == {"failed": 1, "not ended": 1, "outside the space": 1, f"without {OBJECTIVE}": 1}
    none, skipped = warm_start.observations(records[:1], LANE, GOAL, (FLOOR,), {}, "old")
    assert none == ()
    assert skipped == {f"without the pretrained {CLEAN}": 1}


# -- from a run folder -------------------------------------------------------------------------------------


def finished_run(root: Path, name: str = "old", trials: int = 6, **request: Any) -> Plan:
    """Write a run of aoe_sigma whose trials have ended, without training."""
    plan = resolve(LaunchOptions("aoe_sigma", trials=trials, **request), name)
    folder = RunFolder(str(root), name)
    folder.create(plan, {})
    storage = open_storage(folder.storage_url(None))
    lanes = []
    for lane in plan.lanes:
        study = name if lane.name == "search" else f"{name}/{lane.name}"
        store = TrialStore(storage, study, lane.name, TrialRole(lane.role), lane.space, plan.objectives, 0)
        lanes.append(Lane(store, lane.method, lane.fixed, trials, 0))
    lanes[0].store.note("reference", {CLEAN: 0.98})
    queue = TrialQueue(
        lanes, plan.objectives, seed=0, max_epochs=plan.max_epochs, schedule=plan.schedule, floors=plan.floors,
        reference={CLEAN: 0.98},
    )  # fmt: skip
    while (assignment := queue.next()) is not None:
        epoch, decision = 0, Decision.CONTINUE
        while decision is Decision.CONTINUE:
            epoch += 1
            values = {OBJECTIVE: 0.5 - 0.01 * assignment.number + 0.02 * epoch, CLEAN: 0.99}
            decision = queue.report(assignment.key, epoch, values, "c")
    return plan


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    finished_run(folder)
    return folder


def attached(root: Path, *runs: str, **request: Any) -> Plan:
    plan = resolve(LaunchOptions("aoe_sigma", trials=4, **request), "new")
    return warm_start.attach(plan, runs or ("old",), str(root), None)


def test_a_plan_keeps_what_it_was_given(root: Path) -> None:
    plan = attached(root)
    search, oe = plan.lanes
    assert [(w.run, w.lane, w.taken, dict(w.skipped)) for w in plan.warm_start] == [
        ("old", "search", 6, {}),
        ("old", "oe", 6, {}),
    ]
    assert [o.source for o in search.prior] == [f"old/{n:04d}" for n in range(6)]
    assert {o.pruned for o in search.prior} == {True, False}
    assert set(search.prior[0].params) == set(search.space)
    assert "attack.epsilon" not in oe.prior[0].params
    assert from_dict(to_dict(plan)) == plan
    plain = resolve(LaunchOptions("aoe_sigma", trials=4), "new")
    assert plan.content_hash != plain.content_hash
    assert plan.content_hash == replace(plan, run_name="x", epoch_budget=3, gpu_budget_s=9.0).content_hash
    assert warm_start.attach(plain, (), "/nowhere", None) is plain


def test_a_narrower_space_skips_and_says_so(root: Path) -> None:
    epsilons = [o.params["attack.epsilon"] for o in attached(root).lanes[0].prior]
    bound = sorted(epsilons)[2]
    plan = attached(root, settings=(f"attack.epsilon=loguniform(0.001, {bound!r})",))
    assert plan.warm_start[0].taken == 3
    assert (
        warm_start.lines(plan)[0] == "warm start of search: 3 trials of old, 3 skipped (3 outside the space)"
    )
    assert (
        "; its trials were trained for up to 9 epochs, these for 3"
        in warm_start.lines(attached(root, max_epochs=3))[0]
    )


@pytest.mark.parametrize(
    ("request_", "runs", "says"),
    [
        ({}, ("never",), "run 'never' does not exist"),
        ({"dataset": "digits"}, ("old",), "is on data set digits-open, this run digits"),
        ({"settings": ["batch_size=32"]}, ("old",), r"no trial can be used \(6 outside the space\)"),
    ],
)
def test_what_does_not_carry_over_is_refused(
    root: Path, request_: Any, runs: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        attached(root, *runs, **request_)


def test_another_method_or_validation_is_refused(root: Path) -> None:
    other = resolve(LaunchOptions("energy_margins", trials=4), "new")
    with pytest.raises(UsageError, match="trains method aoe, this run energy"):
        warm_start.attach(other, ("old",), str(root), None)
    plan = resolve(LaunchOptions("aoe_sigma", trials=4), "new")
    changed = replace(plan, validation={**plan.validation, "steps": 20})
    with pytest.raises(UsageError, match="validated in another way: steps 10 there, 20 here"):
        warm_start.attach(changed, ("old",), str(root), None)


def test_a_database_that_is_not_there(root: Path, tmp_path: Path) -> None:
    plan = resolve(LaunchOptions("aoe_sigma", trials=4), "elsewhere")
    RunFolder(str(tmp_path), "elsewhere").create(plan, {})
    with pytest.raises(UsageError, match="name its database with --study-storage"):
        attached(tmp_path, "elsewhere")
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    with pytest.raises(UsageError, match="has no study 'elsewhere'"):
        warm_start.attach(replace(plan, run_name="new"), ("elsewhere",), str(tmp_path), url)


def test_everything_was_tried(tmp_path: Path) -> None:
    names = ["attack.name", "attack.epsilon", "attack.steps", "outliers.sigma", "outliers.weight"]
    fixed = [f"{key}={value}" for key, value in zip(names, ("pgd", 0.1, 3, 1.0, 0.5), strict=True)]
    settings = [*fixed, "lr=choice(0.001, 0.003)"]
    finished_run(tmp_path, settings=settings)
    with pytest.raises(UsageError, match="all 2 configurations of lane search were tried"):
        attached(tmp_path, settings=settings)
    wider = attached(tmp_path, settings=(*fixed, "lr=choice(0.001, 0.003, 0.01)"))
    storage = open_storage(f"sqlite:///{tmp_path / 'new.db'}")
    lane = wider.lanes[0]
    store = TrialStore(
        storage, "new", "search", TrialRole.SEARCH, lane.space, wider.objectives, 0, wider.sampler, lane.prior
    )
    first = store.ask(lambda number, params: {"configuration": dict(params), "seed": 0})
    assert first is not None
    assert first.params == {"lr": 0.01}
    assert store.ask(lambda number, params: {}) is None


def test_a_resume_cannot_change_how_the_search_goes(root: Path) -> None:
    plan = attached(root, epoch_budget=50)
    same = LaunchOptions("aoe_sigma", sampler="tpe", scheduler="asha", warm_start=("old",), epoch_budget=80)
    assert amend(plan, same, "").epoch_budget == 80
    assert amend(plan, LaunchOptions("aoe_sigma"), "").epoch_budget == 50
    assert amend(plan, same, "").content_hash == plan.content_hash
    for request, says in (
        (LaunchOptions("aoe_sigma", sampler="gp"), "--sampler gp differs from the run's tpe"),
        (LaunchOptions("aoe_sigma", scheduler="none"), "--scheduler none differs from the run's asha"),
        (LaunchOptions("aoe_sigma", cpus_per_trial=2), "--cpus-per-trial 2 differs from the run's 1"),
        (LaunchOptions("aoe_sigma", warm_start=("x",)), "--warm-start x differs from the run's old"),
    ):
        with pytest.raises(UsageError, match=says):
            amend(plan, request, "")
    with pytest.raises(UsageError, match="--warm-start old differs from the run's nothing"):
        amend(resolve(LaunchOptions("aoe_sigma"), "n"), LaunchOptions("aoe_sigma", warm_start=("old",)), "")
