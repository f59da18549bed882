"""What a resume may change in the plan of a stored run, and what it may not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.study import Floor
from trainables.base.errors import DataFileError
from trainables.data.loading.data_facts import data_facts
from trainables.data.types.datasets import DATASETS
from trainables.data.types.radii import radii_of, radius_text
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, plain, with_stages
from tuner.planning.resolve import widen
from tuner.planning.space_overrides import key_values, override_space
from tuner.planning.user_code import approve_code, present_code

CACHE = "cache_dir"  #: the one setting that decides nothing


def amend(plan: Plan, options: LaunchOptions, command: str, interrupted: bool = False) -> Plan:
    """Return a stored plan with what a resume may change: its size, its machine, its stages.

    Args:
        interrupted: its last launch has not done its stages; the resume goes on with those, unless others or more
            trials are asked for. After a launch that has, it does all of them.

    Raises:
        UsageError: the options ask another question (data set, parameters, seed) or search in another way,
            or the user's own code has changed, or was never launched with.
    """
    refuse_changes(plan, options)
    code = present_code(plan, changed_allowed=options.allow_changed_code)
    approve_code(plan.run_name, code, named=options.allow_changed_code)
    data = _present_data(plan, options)
    lanes, radii = plan.lanes, plan.radii or radii_of(plan.dataset)
    if options.settings:
        cache = override_space({}, options.settings, [plan.method])
        lanes = tuple(replace(lane, fixed={**lane.fixed, **cache}) for lane in lanes)
    if options.trials is not None:
        if plan.trains_one and options.trials > 1:
            raise UsageError(
                f"run {plan.run_name} is one training, not {options.trials}; to train it again with other seeds: "
                "--stages confirm,report --confirm-seeds N"
            )
        if options.trials < plan.trials:
            raise UsageError(
                f"--trials {options.trials} is less than the run's {plan.trials}; it can only grow"
            )
        lanes = tuple(replace(lane, trials=options.trials) for lane in lanes)
    amended = replace(
        plan,
        lanes=lanes,
        confirm=plain(widen(plan.confirm, options.protocol, radii)),
        closer=plain(widen(plan.closer, options.protocol, radii)),
        data_dir=options.data_dir or plan.data_dir,
        learning_curves=options.learning_curves or plan.learning_curves,
        time_budget_s=options.time_budget_s,
        epoch_budget=options.epoch_budget or plan.epoch_budget,
        gpu_budget_s=options.gpu_budget_s or plan.gpu_budget_s,
        epoch_timeout_s=options.epoch_timeout_s or plan.epoch_timeout_s,
        concurrency=options.concurrency or plan.concurrency,
        gpus_per_trial=options.gpus_per_trial if options.gpus_per_trial is not None else plan.gpus_per_trial,
        pack=options.pack if options.pack is not None else plan.pack,
        allow_duplicates=options.allow_duplicates or plan.allow_duplicates,
        code=code,
        data=data,
        confirm_seeds=max(options.confirm_seeds or 0, plan.confirm_seeds),
        command=command,
    )
    asked = options.stages
    if asked is None and interrupted and options.trials in (None, plan.trials):
        asked = plan.stages
    return with_stages(amended, asked)


def refuse_changes(plan: Plan, options: LaunchOptions) -> None:
    """Raise UsageError if the options differ from the plan in what decides a run's results."""
    for flag, asked, stored in (
        ("--dataset", options.dataset and DATASETS[options.dataset].name, plan.dataset),
        ("--seed", options.seed, plan.seed),
        ("--max-epochs", options.max_epochs, plan.max_epochs),
        ("--sampler", options.sampler, plan.sampler),
        ("--scheduler", options.scheduler, plan.scheduler),
        ("--epoch", options.epoch, plan.epoch),
        ("--cpus-per-trial", options.cpus_per_trial, plan.cpus_per_trial),
        ("--warm-start", ",".join(options.warm_start) or None, ",".join(plan.warm_start_runs) or "nothing"),
    ):
        if asked is not None and asked != stored:
            raise UsageError(f"{flag} {asked} differs from the run's {stored}; a resume cannot change it")
    if options.arms is not None and set(options.arms) != {arm.name for arm in plan.arms}:
        stored = ",".join(arm.name for arm in plan.arms) or "none"
        raise UsageError(f"--arms differs from the run's {stored}; a resume cannot change it")
    metrics, radii = tuple(o.metric for o in plan.objectives), plan.radii or radii_of(plan.dataset)
    if options.objective and options.objective != metrics:
        raise UsageError(
            f"--objective {','.join(options.objective)} differs from the run's {','.join(metrics)}; "
            "a resume cannot change it"
        )
    if options.floor and tuple(filter(None, options.floor)) != plan.floors:
        raise UsageError(
            f"--floor {_texts(options.floor)} differs from the run's {_texts(plan.floors)}; a resume cannot change it"
        )
    if options.eval_epsilon and not options.eval_epsilon == radii.accuracy == radii.score:
        asked, stored = (",".join(map(radius_text, each)) for each in (options.eval_epsilon, radii.accuracy))
        raise UsageError(f"--eval-epsilon {asked} differs from the run's {stored}; a resume cannot change it")
    if key_values(options.settings, f"{CACHE}=FOLDER").keys() - {CACHE}:
        raise UsageError(f"--set cannot change a run that exists, but for {CACHE}; start a new one")


def _present_data(plan: Plan, options: LaunchOptions) -> Mapping[str, str]:
    """Return the digests of the user's own data as they are now, those of the plan where nothing is known.

    Raises:
        UsageError: they are not what the run began with, and that is not allowed.
    """
    if not plan.data:
        return plan.data
    try:
        present = data_facts(plan.dataset, options.data_dir or plan.data_dir).digests
    except DataFileError:
        return plan.data  # told by the checks before the start
    changed = [name for name, digest in plan.data.items() if present.get(name) != digest]
    if changed and not options.allow_changed_code:
        name = changed[0]
        before, now = (text.get(name, "no images").split()[0] for text in (plan.data, present))
        raise UsageError(
            f"the images of {name} have changed since run {plan.run_name} began ({before} then, {now} now), so its "
            "trials would not be comparable; bring them back, start a new run, or go on all the same: "
            "--allow-changed-code"
        )
    return present


def _texts(floors: Sequence[Floor | None]) -> str:
    return ", ".join(str(floor) for floor in floors if floor is not None) or "none"
