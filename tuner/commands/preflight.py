"""Checks before a study starts: what cannot work is refused before Ray starts and before anything is written."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.data.types.availability import evaluation_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS, check_suits
from tuner.base.errors import UsageError
from tuner.base.text import listed
from tuner.commands.tracking_uri import tracking_uri
from tuner.execution.cluster_address import check_answers
from tuner.planning.data_for_claim import lacking_for_claim
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.outlier_files import outlier_files
from tuner.planning.plan import Plan
from tuner.store.run_folder import RunFolder


def preflight(plan: Plan, folder: RunFolder, options: LaunchOptions, say: Callable[[str], None]) -> None:
    """Check tracking, storage and data of a plan, say which tests its data leave out, and fetch what can be fetched.

    Raises:
        UsageError: an address, a folder or a name that does not suit, or another driver has the run.
        InputError: a file of the data set or of the outliers is missing or malformed.
    """
    if options.resume is not None:
        folder.lease().refuse_if_driven()
    if options.address is not None:
        check_answers(options.address)
    tracking_uri(folder, options)
    url = folder.storage_url(options.study_storage)
    if options.study_storage:
        from tuner.store.trial_reader import read_with

        read_with(url, lambda storage: None)  # raises for a wrong address, a refused login
    if plan.data_dir and "://" not in plan.data_dir and not Path(plan.data_dir).is_dir():
        raise UsageError(f"--data-dir {plan.data_dir} is not a folder")
    downloads = check_dataset_files(plan.dataset, plan.data_dir)
    _refuse_other_classes(plan, folder)
    _check_own_data(plan, say)
    _refuse_a_claim_without_data(plan)
    _say_what_is_left_out(plan, say)
    _check_outliers(plan)
    _check_networks(plan)
    if downloads:
        say(downloads)
        if (
            options.address is None
        ):  # here, where its progress is seen; on a cluster each node fetches its own
            from trainables.data.download import ensure

            ensure(plan.dataset, plan.data_dir)
    if DATASETS.code(plan.dataset) is not None:
        from trainables.data.loading.own_factory import forget

        forget()  # what the user's function returned may be large; those that train call it themselves


def _refuse_other_classes(plan: Plan, folder: RunFolder) -> None:
    """Refuse to go on with classes of other names or in another order: labels would mean something else."""
    began = folder.entries().get("classes", []) if folder.exists() else []
    now = dataset_info(plan.dataset, plan.data_dir).classes  # none before they are downloaded
    if began and now and list(now) != list(began):
        raise UsageError(
            f"run {plan.run_name} began with the classes {listed(began)}; {plan.dataset} has {listed(now)} now; "
            "bring the data back, or start a new run"
        )


def _check_own_data(plan: Plan, say: Callable[[str], None]) -> None:
    """Check the pictures of a data set that is the user's own."""
    if DATASETS[plan.dataset].users_own:
        from trainables.data.loading.own_data import check_own_data

        for line in check_own_data(plan.dataset, plan.data_dir, plan.allow_duplicates):
            say(f"note: {line}")


def _refuse_a_claim_without_data(plan: Plan) -> None:
    """Refuse a study that is judged by what its data cannot give."""
    if lack := lacking_for_claim(plan):
        raise UsageError(lack)


def _check_outliers(plan: Plan) -> None:
    """Check the files of outliers that a trial may read."""
    files = [options for lane in plan.lanes for options in outlier_files(lane)]
    if files:
        from trainables.data.readers.outlier_files import check_outlier_files  # numpy

        for options in files:
            check_outlier_files(options, dataset_info(plan.dataset, plan.data_dir).shape)


def _check_networks(plan: Plan) -> None:
    """Check each network that a trial may have: run those from elsewhere, read the weights that it may start from.

    Of this project's own the limits are known. So the driver imports torch only where a foreign network asks for it.
    """
    info = dataset_info(plan.dataset, plan.data_dir)
    keys = ("network", "pretrained", "normalize", "precision", "compile", "pretrain.checkpoint")
    combinations: dict[tuple[Any, ...], str] = {}
    for lane in plan.lanes:
        if lane.values("judged") == (False,):  # Rob-GAN without a classifier that judges its samples
            continue
        values = [lane.values(key) or (None,) for key in keys]
        combinations |= dict.fromkeys(itertools.product(*values), lane.method)
    for combination, method in combinations.items():
        given = {key: value for key, value in zip(keys, combination, strict=True) if value is not None}
        options = build(METHODS[method].options, given)
        spec, path = NETWORKS[options.network], str(given.get("pretrain.checkpoint", ""))
        if not (spec.outside or path):
            check_suits(spec, info.num_classes, info.shape, options.pretrained)
        else:
            from trainables.networks.trial_run import try_network
            from trainables.networks.weights import load_weights

            network = try_network(options, info)
            if path:
                load_weights(Path(path), network, f"pretrain.checkpoint {path}")


def _say_what_is_left_out(plan: Plan, say: Callable[[str], None]) -> None:
    """Name the tests that the data set's files do not allow."""
    if not {"evaluate", "confirm"} & set(plan.stages):
        return
    shape = dataset_info(plan.dataset, plan.data_dir).shape
    for sets in evaluation_sets(plan.dataset, shape, plan.data_dir, plan.tested_groups):
        if sets.left_out:
            say(f"note: {sets.left_out}")
