"""Synthetic study results: what the report and the console show, without a single training."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tuner.analysis.results import ArmResult, StudyResult
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve

OBJECTIVE = "val/robust_auroc_0.1/near"
CLEAN = "val/accuracy/clean"
SETS = (
    "permuted",
    "hflip",
    "mixture",
    "unknown",
    "uniform",
    "gaussian",
    "blobs",
    "china",
    "stretched",
    "rot90",
)
CLAIM = "test/robust_auroc_0.1/near"


def plan(trials: int = 20, **changes: Any) -> Plan:
    """Return the plan of aoe_sigma, as the command line makes it."""
    resolved = resolve(
        LaunchOptions("aoe_sigma", trials=trials), "aoe_sigma-test", "python launch.py --study aoe_sigma"
    )
    return replace(resolved, **changes)


def record(
    number: int = 0,
    values: tuple[float, ...] = (0.8,),
    state: State = State.COMPLETE,
    lane: str = "search",
    reason: str = "",
    params: dict[str, Any] | None = None,
    **changes: Any,
) -> TrialRecord:
    """Return a trial whose objective took `values` epoch by epoch."""
    params = {"outliers.sigma": 1.0, "lr": 0.001} if params is None else params
    role = {"search": TrialRole.SEARCH, "confirm": TrialRole.CONFIRM}.get(lane, TrialRole.BASELINE)
    history = {
        epoch: Epoch({OBJECTIVE: value, CLEAN: 0.98, "seconds": 1.5}, Decision.CONTINUE, f"{number}.pt")
        for epoch, value in enumerate(values, 1)
    }
    known: dict[str, Any] = {
        "params": params,
        "configuration": dict(params),
        "seed": number,
        "history": history,
    }
    return TrialRecord(
        lane=lane, number=number, role=role, state=state, reason=reason, **{**known, **changes}
    )


def ranked_alike(tests: list[float]) -> StudyResult:
    """Return a search whose objective rises from trial to trial, with these values of the claim's metric."""
    records = tuple(record(n, (0.5 + n / 100,)) for n in range(len(tests)))
    values = {r.key: {CLAIM: v} for r, v in zip(records, tests, strict=True)}
    return result(records=records, tests=values, feasible=frozenset(values), best=records[-1])


def arm(
    name: str, values: tuple[float, ...], role: str = "", about: str = "", metric: str = CLAIM
) -> ArmResult:
    """Return an arm with one metric."""
    kinds = {"best": "search", "oe": "baseline"}
    return ArmResult(name, role or kinds.get(name, "control"), about, {}, {metric: values}, 10.0)


def result(**changes: Any) -> StudyResult:
    """Return an empty result, with what is named put in."""
    known: dict[str, Any] = {
        "plan": plan(),
        "records": (),
        "tests": {},
        "best": None,
        "feasible": frozenset(),
        "pareto": (),
        "reference": {CLEAN: 0.985},
    }
    return StudyResult(**{**known, **changes})


def realistic(trials: int = 20, seed: int = 0) -> StudyResult:
    """Return a result that looks like a finished aoe_sigma study, every section filled."""
    rng = np.random.default_rng(seed)
    study = plan(trials)
    records = [_trial(rng, lane.name, n) for lane in study.lanes for n in range(trials)]
    complete = [r for r in records if r.state is State.COMPLETE]
    feasible = frozenset(r.key for r in complete if r.judged[CLEAN] >= 0.975)
    own = [r for r in complete if r.lane == "search" and r.key in feasible]
    best = max(own, key=lambda r: r.judged[OBJECTIVE])
    arms = tuple(
        _arm(rng, name, role, level, about)
        for name, role, level, about in (
            ("best", "search", 0.0, "the search's winner"),
            ("oe", "baseline", -0.11, "plain outlier exposure, tuned with as many trials"),
            ("no_attack", "control", -0.12, "the winner without its attack"),
            ("signnoise", "control", -0.07, "random signs of the same epsilon"),
            ("gauss", "control", -0.09, "Gaussian noise of the same epsilon"),
        )
    )
    scores = {"id": rng.beta(1, 12, 500)} | {name: rng.beta(4 + i, 3, 400) for i, name in enumerate(SETS)}
    scores |= {f"{name} attacked": rng.beta(3, 4, 400) for name in SETS}
    before = rng.random((8, 8, 8, 1))
    return result(
        plan=study,
        records=tuple(records),
        tests={r.key: _tests(r) for r in complete},
        best=best,
        feasible=feasible,
        pareto=tuple(r.key for r in sorted(own, key=lambda r: -r.judged[OBJECTIVE])[:3]),
        arms=arms,
        scores=scores,
        attack_examples={
            "before": before,
            "after": np.clip(before + rng.choice((-0.1, 0.1), before.shape), 0, 1),
            "label": "pgd",
        },
        importances={"outliers.sigma": 0.41, "attack.epsilon": 0.33, "lr": 0.2, "attack.steps": 0.06},
        timings={"search": 61.0, "evaluate": 20.5, "confirm": 75.25},
        environment={"torch": "2.15.0", "ray": "2.60.0", "device": "1 x H200", "commit": "abc1234"},
        links={
            "runs": "http://127.0.0.1:5000/#/experiments/1/runs",
            "report": "http://127.0.0.1:5000/#/r?a=1&b=2",
        },
        ui_command="mlflow ui --backend-store-uri sqlite:///mlflow.db",
    )


def _trial(rng: np.random.Generator, lane: str, number: int) -> TrialRecord:
    sigma, epsilon = math.exp(rng.uniform(math.log(0.25), math.log(4))), math.exp(rng.uniform(-3.9, -1.4))
    params = {
        "outliers.sigma": sigma,
        "outliers.weight": 0.5,
        "attack.name": str(rng.choice(("fgsm", "pgd", "mifgsm", "eba", "eba_pgd"))),
        "attack.epsilon": epsilon,
        "attack.steps": int(rng.integers(2, 11)),
        "lr": 10 ** rng.uniform(-3.5, -2),
    }
    top = 0.93 - 0.04 * math.log(sigma / 1.2) ** 2 + 0.03 * math.log(epsilon / 0.1) + rng.normal(0, 0.01)
    if number % 13 == 7:
        values, state, reason = (0.6, 0.5), State.FAIL, "loss is nan after epoch 3"
    else:
        epochs = 9 if top > 0.89 else 3 if top > 0.85 else 1
        values = tuple(top - 0.3 * math.exp(-0.7 * e) + rng.normal(0, 0.003) for e in range(1, epochs + 1))
        state = State.COMPLETE if epochs == 9 else State.PRUNED
        reason = "" if epochs == 9 else f"stopped at epoch {epochs}"
    made = record(number, values, state, lane, reason, params)
    history = {
        e: replace(h, metrics={**h.metrics, CLEAN: 0.985 - 0.01 * rng.random()})
        for e, h in made.history.items()
    }
    return replace(made, history=history)


def _tests(made: TrialRecord) -> dict[str, float]:
    sigma, found = made.params["outliers.sigma"], {"test/accuracy/clean": 0.988}
    for i, name in enumerate(SETS):
        peak = 0.5 + 0.35 * i
        found[f"test/robust_auroc_0.1/{name}"] = (
            0.95 - 0.05 * math.log(sigma / peak) ** 2 + 0.005 * (made.number % 3)
        )
        found[f"test/auroc/{name}"] = 0.99
    found |= {
        CLAIM: 0.9,
        "test/robust_auroc_0.1/far": 0.97,
        "test/auroc/near": 0.96,
        "test/fpr95_id_pos/far": 0.02,
    }
    return found


def _arm(rng: np.random.Generator, name: str, role: str, level: float, about: str) -> ArmResult:
    middle = {
        CLAIM: 0.90 + level,
        "test/robust_auroc_0.1/unknown": 0.905 + level,
        "test/robust_auroc_0.1/far": 0.975 + level / 2,
        "test/auroc/near": 0.96 + level / 5,
        "test/fpr95_id_pos/far": 0.02 - level / 10,
        "test/accuracy/clean": 0.988 - level / 100,
    }
    values = {metric: tuple(mean + rng.normal(0, 0.008) for _ in range(5)) for metric, mean in middle.items()}
    for i, one in enumerate(SETS):
        values.setdefault(f"test/robust_auroc_0.1/{one}", tuple(v + i / 200 for v in values[CLAIM]))
    return ArmResult(name, role, about, {"outliers.sigma": 1.1}, values, 14.5)
