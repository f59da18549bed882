"""The text of `--dry-run`: the resolved plan, its trials and arms, expected time, resources and disk space."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.base.errors import DataFileError
from trainables.data.types.availability import evaluation_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.options.networks import NETWORKS
from tuner.analysis.metric_text import duration, setting_text
from tuner.base.text import counted, listed
from tuner.planning.cost_history import MeasuredCost
from tuner.planning.data_for_claim import lacking_for_claim
from tuner.planning.packability import pack_text
from tuner.planning.plan import LanePlan, Plan, expected_epochs
from tuner.planning.space_overrides import RESERVED
from tuner.search.schedulers import candidate_epochs
from tuner.store import warm_start

COPIES = {"adam": 3, "sgd": 2}  # weights, and the optimiser's moments


def plan_text(
    plan: Plan,
    checkpoint_bytes: int | None = None,
    costs: Mapping[str, MeasuredCost] | None = None,
    cpus: int | None = None,
) -> str:
    """Return the plan in words.

    Args:
        costs: {lane: what an epoch of it has cost in an earlier run}.
        checkpoint_bytes: measured size of one checkpoint; None estimates it from the network's name.
        cpus: of the machine that would train; None where that is not known, as for a cluster.
    """
    lines = [f"study      {plan.study}: {plan.question}"]
    lines += [f"claim      {plan.claim}"] if plan.claim else []
    lines.append(f"run        {plan.run_name}")
    lines += [*_data(plan), f"method     {plan.method}, seed {plan.seed}, plan {plan.content_hash}"]
    lines.append(f"stages     {', '.join(plan.stages)}")
    lines.append("objective  " + "; ".join(f"{o.direction} {o.metric}" for o in plan.objectives))
    if plan.floors:
        lines.append("floor      " + "; ".join(map(str, plan.floors)))
    lines += [
        *_fitted(plan),
        *_preset(plan),
        "",
        "configuration; every other option has its default" if plan.trains_one else "space",
    ]
    space = [(key, str(domain)) for key, domain in plan.lanes[0].space.items()]
    fixed = [(k, f"{setting_text(v)} (fixed)") for k, v in plan.lanes[0].fixed.items() if k not in RESERVED]
    lines += _aligned(space + fixed)
    lines += [
        "",
        *_trials(plan),
        *_costs(plan, costs or {}),
        "",
        *_arms(plan),
        "",
        *_resources(plan, checkpoint_bytes, cpus),
    ]
    return "\n".join(lines)


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(key) for key, _ in rows), default=0)
    return [f"  {key:<{width}}  {text}" for key, text in rows]


def _data(plan: Plan) -> list[str]:
    info = dataset_info(plan.dataset, plan.data_dir)
    shape = " x ".join(map(str, info.shape))
    where = plan.data_dir or ("your own" if DATASETS[plan.dataset].users_own else "built in")
    tested = evaluation_sets(plan.dataset, info.shape, plan.data_dir, plan.tested_groups)
    return [
        f"data       {plan.dataset}: {info.num_classes} ID classes, images {shape}, {where}",
        *([f"classes    {listed(info.classes)}"] if info.classes else []),
        *(f"{sets.label:11}{sets.text}" for sets in tested),
        *(f"note       {line}" for line in plan.notes),
        *(
            f"refused    {line}"
            for line in filter(None, (_misplaced(plan), lacking_for_claim(plan), _missing_weights(plan)))
        ),
    ]


def _misplaced(plan: Plan) -> str:
    """Return what a launch would refuse of the folders and names of the user's own data; no image is opened."""
    if not DATASETS[plan.dataset].users_own:
        return ""
    from trainables.data.loading.from_files import undecoded  # imports numpy

    try:
        undecoded(plan.dataset, plan.data_dir)
    except DataFileError as error:
        return str(error)
    return ""


def _missing_weights(plan: Plan) -> str:
    """Return what a launch would refuse of the files of weights; they are not opened."""
    paths = [str(path) for lane in plan.lanes for path in lane.values("pretrain.checkpoint")]
    return next((f"pretrain.checkpoint {p} is not a file" for p in paths if p and not Path(p).is_file()), "")


def _fitted(plan: Plan) -> list[str]:
    """Return what was chosen for data that the study has no profile for."""
    if not plan.fitted:
        return []
    head = f"fitted to the data, as {plan.study} has no profile for {plan.dataset} (docs/choosing_radii.md)"
    return ["", head, *_aligned(list(plan.fitted.items()))]


def _preset(plan: Plan) -> list[str]:
    """Return whose setting this is, and where it is not theirs."""
    if not plan.preset:
        return []
    return [
        "",
        f"preset     {plan.preset} (docs/papers.md)",
        f"not as published, in {counted(len(plan.deviations), 'respect')}",
        *(f"  {line}" for line in plan.deviations),
    ]


def _trials(plan: Plan) -> list[str]:
    if plan.trains_one:
        return [f"one training of {counted(plan.max_epochs, 'epoch')}", *_judged_epochs(plan)]
    lines = [f"trials, chosen by {plan.sampler}, stopped by {plan.scheduler}"]
    for lane in plan.lanes:
        lines.append(
            f"  {lane.name}: {counted(lane.trials, 'trial')} of {lane.method}{plan.schedule.outlook(lane.trials)}"
        )
    lines += [
        *_early_decision(plan),
        *(f"  {line}" for line in warm_start.lines(plan)),
        *_judged_epochs(plan),
    ]
    if plan.time_budget_s is not None:
        lines.append(f"  no new trials after {duration(plan.time_budget_s)}")
    if plan.epoch_budget is not None:
        lines.append(f"  no new trials after {counted(plan.epoch_budget, 'epoch')} of training")
    if plan.gpu_budget_s is not None:
        lines.append(
            f"  no new trials once {duration(plan.gpu_budget_s)} of GPU are used (of CPU where there is no GPU)"
        )
    return lines


def _early_decision(plan: Plan) -> list[str]:
    """Return that trials are first compared while their learning rate still rises, if they are."""
    first = plan.schedule.first
    rising = [
        max(map(float, lane.values("warmup")), default=0.0) * plan.max_epochs
        for lane in plan.lanes
        if "one_cycle" in lane.values("schedule")
    ]
    if first is None or first > max(rising, default=0.0):
        return []
    words = f"the learning rate rises until epoch {max(rising):.3g} of {plan.max_epochs}"
    return [f"  {words}: trials are first compared before that, after epoch {first}"]


def _judged_epochs(plan: Plan) -> list[str]:
    if plan.epoch == "last":
        return []
    epochs = ", ".join(map(str, candidate_epochs(plan.max_epochs)))
    return [f"  judged by the best of epochs {epochs} on validation data (--epoch last: by the last)"]


def _costs(plan: Plan, measured: Mapping[str, MeasuredCost]) -> list[str]:
    """Return the epochs of all searches, and their time where earlier runs have measured it."""
    fewest, most = expected_epochs(plan)
    cutting = "every rung cutting" if plan.rungs else "the most early stopping"
    between = f"{fewest} with {cutting}, {most} with none" if fewest < most else str(most)
    lines = [] if plan.trains_one else [f"  epochs: {between}"]
    unknown = [lane.name for lane in plan.lanes if lane.name not in measured]
    if unknown:
        names = ", ".join(unknown)
        return [*lines, f"  time: unknown; no earlier run here has measured {names} on {plan.dataset}"]
    bounds = [
        (plan.schedule.fewest_epochs(lane.trials), lane.trials * plan.max_epochs, measured[lane.name])
        for lane in plan.lanes
    ]
    confirm = _confirm_epochs(plan, measured)
    on_top = "; evaluations come on top" if {"evaluate", "confirm"} & set(plan.stages) else ""
    for name, value in (
        ("time", lambda p: p.seconds),
        ("GPU time", lambda p: p.gpu_seconds),
        ("CPU time", lambda p: p.cpu_seconds),
    ):
        low = sum(few * value(p) for few, _, p in bounds)
        high = sum(many * value(p) for _, many, p in bounds)
        if high > 0:
            confirmed = sum(epochs * value(p) for epochs, p in confirm)
            more = f", and {duration(confirmed)} for the confirm stage" if confirmed else ""
            lines.append(
                f"  {name}: about {duration(low)} to {duration(high)}{more}, summed over trials{on_top}"
            )
    runs = ", ".join(dict.fromkeys(p.run for _, _, p in bounds))
    return [*lines, f"  (at the pace of {runs})"]


def _confirm_epochs(plan: Plan, measured: Mapping[str, MeasuredCost]) -> list[tuple[int, MeasuredCost]]:
    """Return (epochs, what one costs) of the winner and of each arm; one that is not searched costs as the winner."""
    if "confirm" not in plan.stages:
        return []
    lanes = [plan.lanes[0].name, *(arm.name if arm.search else plan.lanes[0].name for arm in plan.arms)]
    return [(plan.confirm_seeds * plan.max_epochs, measured[lane]) for lane in lanes]


def _arms(plan: Plan) -> list[str]:
    seeds, arms = plan.confirm_seeds, len(plan.arms) + 1
    if "confirm" not in plan.stages and plan.trains_one:
        return ["one seed, so no interval; for one go on with --resume RUN --stages confirm,report"]
    if "confirm" not in plan.stages:
        return ["confirm: left out, so the answer will have no interval and no comparison"]
    total = f"{counted(seeds * arms, 'training')} of up to {counted(plan.max_epochs, 'epoch')}"
    lines = [
        f"confirm: winner and {counted(len(plan.arms), 'arm')} on {counted(seeds, 'fresh seed')}, {total}"
    ]
    lines += _aligned(
        [(arm.name, f"{arm.role}{', tuned' if arm.search else ''}: {arm.about}") for arm in plan.arms]
    )
    if plan.headline:
        lines.append("  judged by " + plan.headline[0])
    return lines


def _resources(plan: Plan, checkpoint_bytes: int | None, cpus: int | None) -> list[str]:
    share = plan.gpus_per_trial
    auto = (
        "a GPU where there is one"
        if plan.trains_one
        else "a share of a GPU where there is one, measured at start"
    )
    gpus = auto if share is None else f"{share:g} GPU"
    at_once = f"{plan.concurrency} at once" if plan.concurrency else "as many at once as fit"
    each = f"{plan.cpus_per_trial} CPU"
    if cpus is not None and plan.cpus_per_trial > cpus:
        each = f"{cpus} CPU ({plan.cpus_per_trial} asked for, {cpus} there)"
    size = checkpoint_size(plan.lanes[0]) if checkpoint_bytes is None else checkpoint_bytes
    guess = "about " if checkpoint_bytes is None else ""
    if plan.trains_one:
        return [
            f"it gets {each}, {gpus}",
            *([f"checkpoint: {guess}{_bytes(size)}"] if size is not None else []),
        ]
    lines = [f"each trial: {each}, {gpus}; {at_once}", *pack_text(plan)]
    if size is not None:
        trials = sum(lane.trials for lane in plan.lanes)
        lines.append(
            f"checkpoints: {guess}{_bytes(size)} each; {guess}{_bytes(size * trials)} if each of the "
            f"{trials} searched trials keeps one"
        )
    return lines


def checkpoint_size(lane: LanePlan) -> int | None:
    """Return the estimated bytes of one checkpoint, the largest of what the space allows; None if unknown.

    Example:
        small_cnn with Adam: 33,546 parameters x 4 bytes x 3 = 402,552
    """
    copies = max((COPIES.get(name, 3) for name in lane.values("optimizer")), default=3)
    sizes = [NETWORKS[name].parameters for name in lane.values("network") if name in NETWORKS]
    return max(sizes) * 4 * copies if sizes and all(sizes) else None


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
