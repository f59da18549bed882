"""Names of MLflow runs that say what was tried, "t16 pgd sigma 3.7 eps .14", and of the metric they are judged by."""

from typing import Any

from tuner.base.records import TrialRecord
from tuner.planning.plan import Plan

MOST_PARAMS = 3
SHORT = {"epsilon": "eps"}


def run_name(record: TrialRecord, plan: Plan) -> str:
    """Return the name of a trial's run: lane, number and the parameters that the study asks about, words first.

    Of a study that asks about none in particular the first searched ones are named; a trial without any has its method.

    Example:
        trial 16 of the search with attack.name pgd and attack.epsilon 0.1421 -> "t16 pgd eps .14"
    """
    if record.arm:
        return f"{'winner' if record.arm == 'best' else record.arm} seed {record.seed_index}"
    asked = [key for key in plan.effects if key in record.params] or list(record.params)[:MOST_PARAMS]
    asked.sort(key=lambda key: not isinstance(record.params[key], str))
    settings = [_setting(key, record.params[key]) for key in asked] or [record.method]
    lane = [] if record.lane == "search" else [record.lane]
    return " ".join([*lane, f"t{record.number}", *settings])


def judged_name(plan: Plan, metric: str) -> str:
    """Return what a validation metric of the epoch that a trial is judged by is called; the curve keeps its own name.

    MLflow shows the last value of a metric, so that of the best epoch needs another name.
    """
    return f"judged/{metric}" if plan.epoch == "best" else metric


def _setting(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    name = key.rpartition(".")[2]
    text = f"{value:.2g}" if isinstance(value, float) else str(value)
    return f"{SHORT.get(name, name)} {text.removeprefix('0') if text.startswith('0.') else text}"
