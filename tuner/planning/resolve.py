"""Resolves launch options and a study into a plan: every value settled and checked. No side effects, no torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from search_spaces.domain import Setting, SpaceError
from search_spaces.paper_presets import find
from search_spaces.paper_setting import PaperPreset
from search_spaces.study import Profile, Study, fixed, searched
from trainables.base.errors import InputError, unknown
from trainables.base.registry import check_references
from trainables.data.loading.data_facts import DataFacts, data_facts
from trainables.data.types.availability import ood_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.radii import Radii, radii_of
from trainables.evaluation.metrics import presets
from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.evaluation.metrics.protocol import from_fields
from trainables.options import fields_of
from trainables.options.methods import METHODS, known_options
from tuner.base.errors import UsageError
from tuner.planning.asked_judging import judged_by
from tuner.planning.chosen_study import chosen_study, refuse_nothing_to_search, refuse_ranges
from tuner.planning.fitted_profile import fitted_profile, suits
from tuner.planning.judging import Judging, judging_of
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.metric_rules import check_metrics, check_reference
from tuner.planning.own_study import place_of
from tuner.planning.paper_preset import deviations, size_and_sampler, with_preset
from tuner.planning.plan import LanePlan, Plan, plain, with_stages
from tuner.planning.radius_settings import methods_of, profile_at
from tuner.planning.space_overrides import check_arm, check_together, override_space
from tuner.planning.user_code import digests_of, own_code
from tuner.search.sampler_specs import SAMPLERS, check_sampler
from tuner.search.schedulers import SCHEDULERS

Value = TypeVar("Value")


def resolve(options: LaunchOptions, run_name: str, command: str = "") -> Plan:
    """Return the plan of a new run; it has its name for an id until the run is created.

    Raises:
        UsageError: anything that cannot work, in one line.
    """
    try:
        study = chosen_study(options)
    except (SpaceError, InputError) as error:
        raise UsageError(str(error)) from error
    try:
        return _resolve(study, options, run_name, command)
    except (SpaceError, InputError) as error:
        raise UsageError(f"{place_of(study, str(error), options.settings)}{error}") from error


def _resolve(study: Study, options: LaunchOptions, run_name: str, command: str) -> Plan:
    dataset = DATASETS[options.dataset or study.dataset].name
    info = dataset_info(dataset, options.data_dir or "")
    if not info.builtin and not options.data_dir:
        raise UsageError(f"dataset {dataset} needs --data-dir: {info.files}")
    facts = data_facts(dataset, options.data_dir or "")
    profile, radii, fitted = _profile(study, facts, options.eval_epsilon)
    preset = find(options.preset, study.name, dataset) if options.preset else None
    if preset:
        study, profile = with_preset(study, profile, preset, options)
    max_epochs = _given(options.max_epochs, profile.max_epochs or study.max_epochs)
    space = override_space({**study.space, **profile.settings}, options.settings, methods_of(study))
    trials, sampler, scheduler = _search(study, profile, space, preset, options)
    if options.train:
        refuse_ranges(study, space)
    elif options.method:
        refuse_nothing_to_search(study, space)
    for spec in (DATASETS[dataset], *(METHODS[name] for name in methods_of(study))):
        check_references(spec)
    _check_sides(study, facts)
    judging = _judging(study, profile, radii, dataset, options)
    check_metrics(judging.objectives, judging.floors, judging.headline)
    protocol, confirm, closer = _protocols(judging, radii, options.protocol)
    common = {
        "dataset": dataset,
        "data_dir": options.data_dir or "",
        "epochs": max_epochs,
        "threads": _given(options.cpus_per_trial, 1),
    }
    arms = profile.arms or study.arms
    options_known = known_options(methods_of(study))
    for effect in study.effects:
        if effect not in options_known:
            raise InputError(unknown("effect", effect, searched(space)))
    for arm in arms:
        check_arm(arm, space, arm.method or study.method)
    lanes = [_lane("search", "search", study.method, space, common, trials)]
    check_together(lanes[0])
    for arm in arms:
        own = {**{k: v for k, v in space.items() if k not in arm.drop}, **arm.overrides}
        lane = _lane(arm.name, arm.role, arm.method or study.method, own, common, trials)
        check_together(lane)
        lanes += [lane] if arm.search else []
    sampler = SAMPLERS[_given(options.sampler, sampler)].name
    check_reference(judging.floors, lanes)
    for lane in lanes:
        check_sampler(sampler, lane.name, lane.space, judging.objectives)
    question = f"One training of {study.method} on {dataset}" if options.train else study.question
    validation = plain(judging.validation)
    protocols = [from_fields("", fields) for fields in (validation, protocol, confirm, closer)]
    code = own_code(lanes, arms, sampler, dataset, protocols, study.defined_in)
    plan = Plan(
        study=study.name,
        question=question,
        claim=_claim(study, judging, options),
        source=study.source,
        run_name=run_name,
        run_id=run_name,
        dataset=dataset,
        data_dir=options.data_dir or "",
        method=study.method,
        seed=_given(options.seed, 0),
        lanes=tuple(lanes),
        arms=arms,
        objectives=judging.objectives,
        floors=judging.floors,
        headline=judging.headline,
        effects=tuple(e for e in study.effects if e in searched(space)),
        max_epochs=max_epochs,
        first_rung=_first_rung(study, profile, max_epochs),
        reduction=study.reduction,
        confirm_seeds=_given(options.confirm_seeds, study.confirm_seeds),
        validation=validation,
        protocol=plain(protocol),
        confirm=plain(confirm),
        closer=plain(closer),
        sampler=sampler,
        scheduler=SCHEDULERS[_given(options.scheduler, scheduler)].name,
        learning_curves=options.learning_curves or options.train,
        epoch=_epoch(study, judging, options.epoch),
        time_budget_s=options.time_budget_s,
        epoch_budget=options.epoch_budget,
        gpu_budget_s=options.gpu_budget_s,
        epoch_timeout_s=options.epoch_timeout_s,
        concurrency=options.concurrency,
        gpus_per_trial=options.gpus_per_trial,
        pack=options.pack,
        cpus_per_trial=_given(options.cpus_per_trial, 1),
        allow_duplicates=options.allow_duplicates,
        own=code,
        code=digests_of(code),
        radii=radii,
        fitted=_still_chosen(fitted, options),
        notes=facts.notes,
        data=facts.digests,
        command=command,
        preset=f"{preset.name}: {preset.source}" if preset else "",
        deviations=deviations(preset, space, max_epochs) if preset else (),
    )
    return with_stages(plan, options.stages)


def _epoch(study: Study, judging: Judging, asked: str | None) -> str:
    """Return which epoch of a trial is judged; the last where several objectives would each choose another.

    Raises:
        UsageError: the best is asked for all the same.
    """
    if len(judging.objectives) > 1:
        if asked == "best":
            metrics = ", ".join(o.metric for o in judging.objectives)
            raise UsageError(f"--epoch best needs one objective, and there are {metrics}; use --epoch last")
        return "last"
    return asked or study.epoch


def _search(
    study: Study,
    profile: Profile,
    space: Mapping[str, Setting],
    preset: PaperPreset | None,
    options: LaunchOptions,
) -> tuple[int, Any, str]:
    """Return the trials of a lane, the sampler and the scheduler.

    Of the authors' setting each value that they went over is trained once, to its end.
    """
    if options.train:
        return 1, "random", "none"  # nothing is drawn, nothing stopped
    trials, sampler = profile.trials or study.trials, profile.sampler or study.sampler
    scheduler = profile.scheduler or study.scheduler
    if preset:
        trials, sampler = size_and_sampler(searched(space), trials, sampler)
        scheduler = "none"
    return _given(options.trials, trials), sampler, scheduler


def _protocols(
    judging: Judging, radii: Radii, asked: str | None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the fields of the protocol of the evaluate stage, of the confirm stage's arms and of its winner."""
    own = {**presets.fields_of(presets.DEFAULT, radii), **judging.protocol}
    confirm = widen(own, asked, radii)
    closer = presets.widened(confirm, presets.winner_protocol(own))
    for values in (own, confirm, closer):
        from_fields("test", values)
    return own, confirm, closer


def widen(protocol: Mapping[str, Any], asked: str | None, radii: Radii) -> dict[str, Any]:
    """Return a protocol that also measures what the named one does.

    Raises:
        InputError: there is no protocol of that name.
    """
    return dict(presets.widened(protocol, presets.fields_of(asked, radii) if asked else {}))


def _check_sides(study: Study, facts: DataFacts) -> None:
    """Raise UsageError if a method of the study does not take images of this size."""
    _, height, width = facts.shape
    for name in methods_of(study):
        smallest, largest = METHODS[name].sides
        if smallest <= min(height, width) and max(height, width) <= largest:
            continue
        cures = ["choose other data"]
        if DATASETS[facts.name].users_own:
            cures = [f'write {{"side": {largest}}} into dataset.json beside train/']
        if name != study.method:
            others = [arm.name for arm in study.arms if arm.method != name]
            cures.append(f"leave it out: --arms {','.join(others) or 'none'}")
        raise UsageError(
            f"method {name} of study {study.name} takes images of {smallest} to {largest} pixels a side, {facts.name} "
            f"has {height} x {width}; {', or '.join(cures)}"
        )


def _profile(
    study: Study, facts: DataFacts, asked: tuple[float, ...]
) -> tuple[Profile, Radii, dict[str, str]]:
    """Return the study's profile of a data set, or one that is fitted to it, its radii, and what was chosen for it."""
    radii = Radii(asked, asked) if asked else radii_of(facts.name, facts.shape)
    shipped = study.profile(facts.name)
    if shipped is not None or suits(study, facts.name):
        shipped = shipped or Profile(facts.name)
        return profile_at(study, shipped, radii) if asked else shipped, radii, {}
    profile, chosen = fitted_profile(study, facts, radii)
    return profile, radii, chosen


def _judging(study: Study, profile: Profile, radii: Radii, dataset: str, options: LaunchOptions) -> Judging:
    """Return what the study is judged by, as the command line has it."""
    judging = judging_of(study, profile)
    if options.train:
        judging = replace(judging, floors=())  # they choose among trials
    if not options.objective and not options.floor:
        return judging
    roles = DATASETS[dataset].roles
    return judged_by(
        judging,
        options.objective,
        options.floor,
        radii,
        ood_sets(dataset, options.data_dir or ""),
        roles.validation if roles else None,
    )


def _first_rung(study: Study, profile: Profile, max_epochs: int) -> int:
    """Return the epoch of the first rung: the share of the schedule that the study or its profile has, rounded up."""
    own, of = study.first_rung, study.max_epochs
    if profile.first_rung:
        own, of = profile.first_rung, profile.max_epochs or of
    return -(-own * max_epochs // of)


def _claim(study: Study, judging: Judging, options: LaunchOptions) -> str:
    """Return the study's claim, or one about the objective that was asked for."""
    if not options.objective or not study.claim:
        return study.claim
    return f"the winner beats its tuned baselines in {find_metric(judging.headline[0]).label}"


def _still_chosen(fitted: Mapping[str, str], options: LaunchOptions) -> dict[str, str]:
    """Return what was chosen and the command line has not replaced."""
    given = {text.partition("=")[0].strip() for text in options.settings}
    given |= {"epochs"} if options.max_epochs else set()
    given |= {"trials"} if options.trials or options.train else set()
    given |= {what for what in fitted if what.startswith("floor on ") and (options.floor or options.train)}
    return {what: text for what, text in fitted.items() if what not in given}


def _lane(
    name: str, role: str, method: str, space: Mapping[str, Setting], common: Mapping[str, Any], trials: int
) -> LanePlan:
    known = fields_of(METHODS[method].options)
    own = {key: value for key, value in space.items() if key in known}
    return LanePlan(name, role, method, searched(own), {**common, **fixed(own)}, trials)


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value
