"""The work of a study that is not a trial, as functions that Ray runs on a worker: torch stays out of the driver."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import trainables
from trainables import checkpoints, networks
from trainables.attacks import perturb_outliers
from trainables.base import VALIDATION_SEED, choose_device
from trainables.data.benchmark import Benchmark
from trainables.data.cache import cache_dir_of
from trainables.data.load import load
from trainables.data.loader import to_unit
from trainables.data.outliers import sample_outliers
from trainables.data.splits import Split
from trainables.evaluation.protocol import evaluate, validate
from trainables.evaluation.spec import Protocol
from trainables.options import build
from trainables.pretrained import pretrained_state
from trainables.storage import Folder

TEST_SEED = 7_700_417  # every checkpoint is attacked with the same noise


def load_benchmark(name: str, data_dir: str, stage: str) -> Benchmark:
    """Open a data set; for the search without its test splits."""
    searching = stage == "search"
    benchmark = load(name, data_dir, search_only=searching)
    return benchmark.for_search() if searching else benchmark


def pretrain(
    method: str, configuration: dict[str, Any], seed: int, benchmark: Benchmark, protocol: Protocol
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the pretrained classifier of a seed as arrays, and its validation metrics."""
    torch.set_num_threads(int(configuration.get("threads", 1)))
    entry = trainables.get(method)
    options = replace(build(entry.load_options(), configuration), seed=seed)
    device = choose_device(options.device)
    cache = cache_dir_of(options.cache_dir)
    state = pretrained_state(options, options.pretrain, benchmark, cache, device)
    info = benchmark.info
    network = networks.build(
        options.network,
        info.num_classes,
        info.shape,
        info.mean,
        info.std,
        dropout=getattr(options, "dropout", 0.0),
    )
    network.load_state_dict(state)
    generator = torch.Generator(device).manual_seed(VALIDATION_SEED)
    metrics = validate(network.to(device), benchmark, protocol, generator, device)
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}, metrics


def evaluate_checkpoint(
    folder: str, checkpoint: str, benchmark: Benchmark, protocol: Protocol, threads: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Score a checkpoint on the test splits.

    Returns:
        ({"test/...": value}, {set name: outlier scores}, attacked sets as "<set> attacked").
    """
    torch.set_num_threads(threads)
    device = choose_device("auto")
    content = checkpoints.unpack(Folder(folder).read(checkpoint), checkpoint, device)
    network = checkpoints.classifier_of(content, device)
    found = evaluate(network, benchmark, protocol, torch.Generator(device).manual_seed(TEST_SEED), device)
    scores = dict(found.scores)
    for sets in list(found.attacked_scores.values())[:1]:  # the first epsilon is the protocol's own
        scores |= {f"{name} attacked": values for name, values in sets.items() if name != "id"}
    return dict(found.metrics), scores


def outlier_strip(
    folder: str, checkpoint: str, benchmark: Benchmark, count: int = 12
) -> dict[str, Any] | None:
    """Return outliers before and after the attack of a finished trial, or None for a method without outliers.

    Returns:
        {"before", "after": (count, h, w, c) in [0, 1], "label": what was done}.
    """
    content = checkpoints.unpack(Folder(folder).read(checkpoint), checkpoint)
    options = build(trainables.get(content["method"]).load_options(), content["options"])
    attack, wanted = getattr(options, "attack", None), getattr(options, "outliers", None)
    if attack is None or wanted is None:
        return None
    torch.set_num_threads(1)
    cache = cache_dir_of(options.cache_dir)
    images = sample_outliers(replace(wanted, count=count), benchmark.labelled(Split.TRAIN), 0, cache)
    before = to_unit(torch.tensor(images))
    network = checkpoints.classifier_of(content)
    inliers = to_unit(torch.tensor(benchmark.labelled(Split.TRAIN).images[:count]))
    labels = torch.tensor(benchmark.labelled(Split.TRAIN).labels[:count])
    after = perturb_outliers(
        network, inliers, labels, before, attack, torch.Generator().manual_seed(0), oe_weight=wanted.weight
    )
    return {
        "before": before.permute(0, 2, 3, 1).numpy(),
        "after": after.permute(0, 2, 3, 1).numpy(),
        "label": f"{attack.name}, epsilon {attack.epsilon:.3g}, sigma {wanted.sigma:.3g}",
    }


def winner_network(folder: str, checkpoint: str, benchmark: Benchmark) -> tuple[nn.Module, np.ndarray]:
    """Return a checkpoint's classifier on the CPU and a batch of validation images in [0, 1]."""
    content = checkpoints.unpack(Folder(folder).read(checkpoint), checkpoint)
    images = to_unit(torch.tensor(np.array(benchmark.labelled(Split.VAL_ID).images[:4])))
    return checkpoints.classifier_of(content), images.numpy()
