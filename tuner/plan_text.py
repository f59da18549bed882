"""What `--dry-run` prints: the resolved plan, what it will train and what it will leave on the disk."""

from collections.abc import Mapping, Sequence
from typing import Any

import trainables
from trainables.data import catalog
from trainables.options import fields_of
from tuner.plan import RESERVED, LanePlan, Plan, expected_epochs
from tuner.verdict import duration, setting_text

# parameters of the classifiers at 10 classes; the smallest is for 8 x 8 grey images
PARAMETERS = {
    "small_cnn": 33.5e3,
    "wrn_40_2": 2.24e6,
    "wrn_28_10": 36.5e6,
    "wrn_28_10_silu": 36.5e6,
    "preact_resnet18": 11.2e6,
    "resnet50": 25.6e6,
    "mobilenet_v3_small": 2.5e6,
    "mobilenet_v3_large": 5.5e6,
}
COPIES = {"adam": 3, "sgd": 2}  # weights, and the optimiser's moments


def plan_text(plan: Plan, checkpoint_bytes: int | None = None) -> str:
    """Return the plan in words.

    Args:
        checkpoint_bytes: measured size of one checkpoint; None estimates it from the network's name.
    """
    lines = [
        f"study      {plan.study}: {plan.question}",
        f"claim      {plan.claim}",
        f"run        {plan.run_name}",
    ]
    lines += [_data(plan), f"method     {plan.method}, seed {plan.seed}, plan {plan.content_hash}"]
    lines.append(f"stages     {', '.join(plan.stages)}")
    lines.append("objective  " + "; ".join(f"{o.direction} {o.metric}" for o in plan.objectives))
    if plan.floors:
        lines.append("floor      " + "; ".join(map(str, plan.floors)))
    lines += ["", "space"]
    space = [(key, str(domain)) for key, domain in plan.lanes[0].space.items()]
    fixed = [(k, f"{setting_text(v)} (fixed)") for k, v in plan.lanes[0].fixed.items() if k not in RESERVED]
    lines += _aligned(space + fixed)
    lines += ["", *_trials(plan), "", *_arms(plan), "", *_resources(plan, checkpoint_bytes)]
    return "\n".join(lines)


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(key) for key, _ in rows), default=0)
    return [f"  {key:<{width}}  {text}" for key, text in rows]


def _data(plan: Plan) -> str:
    info = catalog.get(plan.dataset, plan.data_dir)
    shape = " x ".join(map(str, info.shape))
    where = "built in" if info.builtin else plan.data_dir
    return f"data       {plan.dataset}: {info.num_classes} ID classes, images {shape}, {where}"


def survivors(trials: int, plan: Plan) -> list[tuple[int, int]]:
    """Return [(epoch, trials that train that far)] if every rung keeps its best 1/reduction.

    Example:
        20 trials, rungs 1 and 3 of 9 epochs, reduction 3: (1, 20), (3, 7), (9, 3)
    """
    found, alive = [], trials
    for epoch in (*plan.rungs, plan.max_epochs):
        found.append((epoch, alive))
        alive = max(1, -(-alive // plan.reduction))
    return found


def _trials(plan: Plan) -> list[str]:
    fewest, most = expected_epochs(plan)
    lines = ["trials"]
    for lane in plan.lanes:
        steps = ", ".join(f"{alive} to epoch {epoch}" for epoch, alive in survivors(lane.trials, plan))
        lines.append(
            f"  {lane.name}: {lane.trials} trials of {lane.method}; early stopping leaves about {steps}"
        )
    lines.append(f"  epochs: {fewest} with every rung cutting, {most} with none")
    if plan.time_budget_s is not None:
        lines.append(f"  no new trials after {duration(plan.time_budget_s)}")
    return lines


def _arms(plan: Plan) -> list[str]:
    seeds, arms = plan.confirm_seeds, len(plan.arms) + 1
    if "confirm" not in plan.stages:
        return ["confirm: left out, so the answer will have no interval and no comparison"]
    total = f"{seeds * arms} trainings of up to {plan.max_epochs} epochs"
    lines = [f"confirm: winner and {len(plan.arms)} arms on {seeds} fresh seeds, {total}"]
    lines += _aligned(
        [(arm.name, f"{arm.role}{', tuned' if arm.search else ''}: {arm.about}") for arm in plan.arms]
    )
    if plan.headline:
        lines.append("  judged by " + plan.headline[0])
    return lines


def _resources(plan: Plan, checkpoint_bytes: int | None) -> list[str]:
    share = plan.gpus_per_trial
    gpus = "a share of a GPU where there is one" if share is None else f"{share:g} GPU"
    at_once = f"{plan.concurrency} at once" if plan.concurrency else "as many at once as fit"
    lines = [f"each trial: {plan.cpus_per_trial} CPU, {gpus}; {at_once}"]
    size = checkpoint_size(plan.lanes[0]) if checkpoint_bytes is None else checkpoint_bytes
    if size is not None:
        trials = sum(lane.trials for lane in plan.lanes)
        guess = "about " if checkpoint_bytes is None else ""
        lines.append(
            f"checkpoints: {guess}{_bytes(size)} each; {guess}{_bytes(size * trials)} if each of the "
            f"{trials} searched trials keeps one"
        )
    return lines


def checkpoint_size(lane: LanePlan) -> int | None:
    """Return the estimated bytes of one checkpoint, the largest of what the space allows; None if unknown.

    Example:
        small_cnn with Adam: 33,500 parameters x 4 bytes x 3 = 402,000
    """
    known = fields_of(trainables.get(lane.method).load_options())
    networks = _values(lane, "network", known)
    copies = max((COPIES.get(name, 3) for name in _values(lane, "optimizer", known)), default=3)
    sizes = [PARAMETERS[name] for name in networks if name in PARAMETERS]
    return round(max(sizes) * 4 * copies) if sizes else None


def _values(lane: LanePlan, key: str, known: Mapping[str, Any]) -> tuple[Any, ...]:
    if key in lane.space:
        return tuple(getattr(lane.space[key], "options", ()))
    if key in lane.fixed:
        return (lane.fixed[key],)
    return (known[key][2],) if key in known else ()


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
