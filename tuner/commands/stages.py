"""Calls the controller's stages in order (prepare, probe, search, evaluate, confirm), with tracking around them."""

from collections.abc import Sequence

import ray

from trainables.data.types.own_datasets import array_path
from trainables.ray.assets import Assets
from tuner.base.errors import StudyFailed, StudyHalted
from tuner.base.text import counted
from tuner.commands.session import Session
from tuner.devices.allocation import GpuAllocation
from tuner.devices.bf16 import slow_bf16
from tuner.devices.resources import Resources, fitted
from tuner.execution.controller import Controller
from tuner.execution.remaining_work import nothing_is_left
from tuner.execution.run_stores import RunStores
from tuner.planning.plan import Plan
from tuner.store import warm_start
from tuner.tracking.listener import TrackingListener, describe_datasets


def run_stages(session: Session) -> tuple[Controller, str]:
    """Run the plan's stages and return their controller and why the study has failed, "" if it has not.

    A study that has failed still has results to publish.

    Raises:
        StudyHalted: the study cannot go on for now.
        Interrupted, LeaseLost: it must stop.
    """
    plan = session.plan
    stores = RunStores(plan, session.folder, session.storage_url) if session.resumed else None
    if stores is not None and not ray.is_initialized() and nothing_is_left(plan, stores):
        controller, tracking = _controller(session, plan, Resources(plan.cpus_per_trial, 0.0, 1), stores)
        session.stage("resume", "nothing is left to train or to measure")
        _load_data(session, controller, tracking, seeds=())
        return controller, ""
    session.stage("start", "Ray")
    with session.timed("ray"):
        session.start_ray()
        session.signals.check()
    allocation = GpuAllocation(plan, session.folder, ray.nodes(), session.options.address is not None)
    resources = _announced(session, allocation.initial())
    slow = slow_bf16(plan, resources) if session.options.address is None else ""
    for line in filter(None, [session.access_note, slow, *warm_start.lines(plan)]):
        session.console.note(line)
    controller, tracking = _controller(session, fitted(plan, resources.cpus_per_trial), resources, stores)
    try:
        _prepare(session, controller, allocation, tracking)
        _search_evaluate_confirm(session, controller)
    except StudyHalted:
        raise
    except StudyFailed as error:
        return controller, str(error)
    return controller, ""


def _controller(
    session: Session, plan: Plan, resources: Resources, stores: RunStores | None
) -> tuple[Controller, TrackingListener]:
    """Return the controller of the launch, and its listener that sends what happens to MLflow."""
    tracking = TrackingListener(session.tracker, session.plan, session.facts)
    controller = Controller(
        plan,
        session.folder,
        session.storage_url,
        resources,
        (tracking, session.console, session.retention),
        session.signals,
        session.console.progress,
        stores,
    )
    session.console.load_earlier(controller.stores.records())
    return controller, tracking


def _prepare(
    session: Session, controller: Controller, allocation: GpuAllocation, tracking: TrackingListener
) -> None:
    """Load the data, pretrain, measure how many trials share a GPU, send MLflow what an earlier launch left unsent."""
    session.stage("prepare", "data, pretrained classifier")
    assets = _load_data(session, controller, tracking, [session.plan.seed])
    if allocation.unmeasured:
        session.stage("probe", "how many trials share a GPU")
        controller.resources = _announced(session, _measured(session, allocation, assets))


def _load_data(
    session: Session, controller: Controller, tracking: TrackingListener, seeds: Sequence[int]
) -> Assets:
    """Load the data and the pretrained classifiers of some seeds; send MLflow what an earlier launch left unsent."""
    assets = controller.prepare(seeds)
    for line in session.folder.entries().get("duplicates", []):
        session.console.note(line)
    tracking.datasets = describe_datasets(
        assets.benchmark, session.plan.data_dir or array_path(session.plan.dataset)
    )
    session.tracker.inputs("", tracking.datasets)
    if session.resumed:
        tracking.add_missing(controller.stores.records(), controller.stores.evaluations.metrics())
    session.console.reference = controller.stores.reference
    return assets


def _measured(session: Session, allocation: GpuAllocation, assets: Assets) -> Resources:
    """Return the resources of a trial as the probe measures them on this machine's GPU."""
    with session.timed("probe"):
        resources, notes = allocation.measure(assets, session.signals.check)
        for line in notes:
            session.console.note(line)
    return resources


def _announced(session: Session, resources: Resources) -> Resources:
    """Store how many trials run at a time, say what the user should know of it, and return the resources."""
    session.timings["concurrency"] = resources.concurrency
    session.lease.note(concurrency=resources.concurrency)
    if resources.note:
        session.console.note(resources.note)
    return resources


def _search_evaluate_confirm(session: Session, controller: Controller) -> None:
    """Run those of the three stages that this launch was asked for."""
    stages = session.plan.stages
    if "search" in stages and session.plan.trains_one:
        session.stage("train", counted(session.plan.max_epochs, "epoch"))
    else:
        session.stage("search" if "search" in stages else "resume", controller.resources.at_a_time)
    if "search" in stages:
        controller.run_search()
    if "evaluate" in stages:
        session.stage("evaluate", "test splits of the finished trials")
        controller.run_evaluate([r for s in controller.stores.lanes.values() for r in s.records()])
    if "confirm" in stages:
        session.stage("confirm", f"{counted(session.plan.confirm_seeds, 'fresh seed')}, every arm")
        controller.run_confirm()
