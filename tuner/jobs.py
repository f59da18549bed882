"""The work of a study that is not a trial, as functions that Ray runs on a worker: torch stays out of the driver."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import trainables
from trainables import checkpoints, networks
from trainables.base import VALIDATION_SEED, choose_device
from trainables.data.benchmark import Benchmark
from trainables.data.load import load
from trainables.evaluation.protocol import evaluate, validate
from trainables.evaluation.spec import Protocol
from trainables.options import build
from trainables.pretrained import default_cache_dir, pretrained_state
from trainables.storage import Folder

TEST_SEED = 7_700_417  # every checkpoint is attacked with the same noise


def load_benchmark(name: str, data_dir: str, stage: str) -> Benchmark:
    """Open a data set; for the search without its test splits."""
    benchmark = load(name, data_dir)
    return benchmark.for_search() if stage == "search" else benchmark


def pretrain(
    method: str, configuration: dict[str, Any], seed: int, benchmark: Benchmark, protocol: Protocol
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the pretrained classifier of a seed as arrays, and its validation metrics."""
    torch.set_num_threads(int(configuration.get("threads", 1)))
    entry = trainables.get(method)
    options = replace(build(entry.load_options(), configuration), seed=seed)
    device = choose_device(options.device)
    cache = Path(options.cache_dir) if options.cache_dir else default_cache_dir()
    state = pretrained_state(options, options.pretrain, benchmark, cache, device)
    info = benchmark.info
    network = networks.build(
        options.network, info.num_classes, info.shape, info.mean, info.std, dropout=options.dropout
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
    scores = {**found.scores, **{f"{name} attacked": s for name, s in found.attacked_scores.items()}}
    return dict(found.metrics), scores
