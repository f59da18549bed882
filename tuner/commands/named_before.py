"""Leaves servers, stores and files out of printed commands that a run folder names and this user never has.

A command on the command line is the user's own word, so one that repeats what a `plan.json` of somebody else says would
make that their word: a cluster to connect to, a store to write to, a file to import.
"""

import re
from dataclasses import replace

from tuner.base import known_list
from tuner.base.errors import UsageError
from tuner.base.urls import without_password
from tuner.commands import tracking_uri
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan

ADDRESSES, CACHES = "addresses", "caches"  #: of `known_list`
AUTO = "auto"


def remember_address(options: LaunchOptions) -> None:
    """Keep that this user has launched on a cluster."""
    if options.address and options.address != AUTO:
        known_list.remember(ADDRESSES, [without_password(options.address)])


def remember_cache(plan: Plan) -> None:
    """Keep that this user has launched with a cache folder of the study's settings."""
    if plan.cache_dir:
        known_list.remember(CACHES, [plan.cache_dir])


def refuse_unknown_cache(plan: Plan, options: LaunchOptions) -> None:
    """Refuse a cache folder that only `plan.json` names: it would be written to, and what is in it believed.

    Raises:
        UsageError: this user has never named it.
    """
    if plan.cache_dir and not options.settings and plan.cache_dir not in known_list.known(CACHES):
        raise UsageError(
            f"plan.json of run {plan.run_name!r} names the cache folder {plan.cache_dir}, which you have never named; "
            "name it, or another: --set cache_dir=FOLDER"
        )


def named_options(options: LaunchOptions) -> LaunchOptions:
    """Return the options of a stored command without a cluster or MLflow store that this user has never named."""
    addresses = [AUTO, *known_list.known(ADDRESSES)]
    stores = known_list.known(tracking_uri.LIST)
    return replace(
        options,
        address=options.address if options.address in addresses else None,
        tracking_uri=options.tracking_uri if options.tracking_uri in stores else None,
    )


def named_study(plan: Plan) -> str:
    """Return the study's name, "" where a stored plan has a file or a module in its place, which would be imported."""
    return plan.study if re.fullmatch(r"[\w.-]+", plan.study) else ""
