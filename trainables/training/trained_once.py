"""Trainings that several trials start from: done once on a machine, and kept in the cache folder."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainables.base.cache import locked, make_cache_folder
from trainables.base.errors import DataFileError
from trainables.base.seeds import derive_seed
from trainables.base.storage import atomic_write, check_archive
from trainables.base.streams import Streams, preserved_rng
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.types.splits import Split
from trainables.options import to_flat
from trainables.options.common import RunOptions
from trainables.options.networks import NETWORKS
from trainables.training.method import Context

#: Hashed into every file's name: raise it when a training that is kept here changes.
FORMAT = 1
T = TypeVar("T")
log = logging.getLogger(__name__)


def trained_once(
    path: Path, train: Callable[[], T], read: Callable[[Path], T], content: Callable[[T], Any] = lambda x: x
) -> T:
    """Return what a file of the cache holds, trained now where it is missing or damaged.

    Processes that ask for the same file at once train it once: the others wait for its lock.

    Args:
        read: reads the file; a DataFileError says that it is damaged.
        content: what `torch.save` writes of a result.
    """

    def kept() -> T | None:
        if not path.exists():
            return None
        try:
            return read(path)
        except DataFileError as error:
            log.warning("a cached training is damaged and will be done again: %s", error)
            return None

    make_cache_folder(path.parent)
    result = kept()
    if result is None:
        with locked(path.with_suffix(".lock")):
            result = kept()  # another process may have trained it meanwhile
            if result is None:
                result = train()
                with atomic_write(path) as file:
                    torch.save(content(result), file)
    return result


def shared_start(
    options: RunOptions, train: Callable[[Any, Context], dict[str, Any]], context: Context, cache_dir: Path
) -> dict[str, Any]:
    """Return what `train(options, context)` returned for these options, seed and training images.

    Args:
        options: all that decides the result; their seed is that of all its random numbers.
        train: returns tensors and plain values; it is given this context with random streams of its own, so that
            the trial's are the same whether or not something was trained.
        cache_dir: `<cache_dir>/shared/<hash>.pt` is read or written; made if missing.

    Raises:
        TrainingFailed: `train` failed; nothing is kept.
    """

    def training() -> dict[str, Any]:
        with preserved_rng(context.device):
            streams = Streams(derive_seed(options.seed, "shared start"), context.device)
            return train(options, replace(context, streams=streams))

    def read(path: Path) -> dict[str, Any]:
        try:
            check_archive(path)
            content: dict[str, Any] = torch.load(path, map_location=context.device, weights_only=True)
        except Exception as error:  # zip, pickle and runtime errors alike: torch promises no type
            raise DataFileError(f"{path} cannot be read ({type(error).__name__})") from error
        return content

    return trained_once(cache_dir / "shared" / f"{start_hash(options, context)}.pt", training, read)


def start_hash(options: RunOptions, context: Context) -> str:
    """Return 32 hexadecimal digits of everything that decides a shared start: data, code, seed, options."""
    info = context.data.info
    recipe = {
        "format": FORMAT,
        "options": [
            type(options).__name__,
            to_flat(replace(options, data_dir="", cache_dir="", device="auto")),
        ],
        "input": [info.num_classes, *info.shape, *info.mean, *info.std],
        "arrays": fingerprint_images(context.data.labelled(Split.TRAIN)),
        "code": sorted(NETWORKS.digests(options.network).values()),
        "device": context.device.type,
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]
