"""Ray tasks of a study besides its trials: data, pretraining, evaluation. They run on workers."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables import networks
from trainables.base.cache import cache_dir_of
from trainables.base.storage import Folder
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.open_dataset import fingerprint, load
from trainables.data.loading.stream_loader import set_decoders
from trainables.data.synthetic.regenerated import with_corruptions
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import Split
from trainables.evaluation.cache import EvaluationCache, evaluation_key
from trainables.evaluation.measure import evaluate, validate
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.result import Evaluation
from trainables.functional.attacks import perturb_outliers
from trainables.inference.model_file import facts_of, model_bytes, registrable
from trainables.inference.registrable import Registrable
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from trainables.outliers.pretrained import pretrained_state
from trainables.outliers.sampling import sample_outliers
from trainables.ray.device import choose_device, gpu_share
from trainables.ray.trial_runner import VALIDATION_SEED
from trainables.training import checkpoints

TEST_SEED = 7_700_417  # every checkpoint is attacked with the same random numbers


def load_benchmark(name: str, data_dir: str, stage: str) -> Benchmark:
    """Open a data set; for the "search" stage without its test splits."""
    searching = stage == "search"
    benchmark = load(name, data_dir, search_only=searching)
    return benchmark.for_search() if searching else benchmark


def load_tests(
    name: str, data_dir: str, groups: Sequence[str], cache_dir: str
) -> tuple[Benchmark, tuple[str, ...]]:
    """Open a data set with its test splits; return it and notes on it for the report.

    Corruptions are generated if the metric groups include "corrupted" and none are on disk.
    """
    benchmark = load(name, data_dir)
    if "corrupted" in groups:
        benchmark = with_corruptions(benchmark, cache_dir_of(cache_dir))
    return benchmark, benchmark.notes


def pretrain(
    method: str, configuration: dict[str, Any], seed: int, benchmark: Benchmark, protocol: EvaluationProtocol
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the pretrained classifier of a seed as arrays, and its validation metrics."""
    torch.set_num_threads(int(configuration.get("threads", 1)))
    entry = METHODS[method]
    options = replace(build(entry.options, configuration), seed=seed)
    device = choose_device(options.device)
    set_decoders(gpu_share(device), options.threads)
    cache = cache_dir_of(options.cache_dir)
    state = pretrained_state(options, options.pretrain, benchmark, cache, device)
    network = networks.build_for(options, benchmark.info, dropout=0.0)  # as it was pretrained
    network.load_state_dict(state)
    generator = torch.Generator(device).manual_seed(VALIDATION_SEED)
    metrics = validate(network.to(device), benchmark, protocol, generator, device)
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}, metrics


def data_version(benchmark: Benchmark) -> str:
    """Return a hash of the data set's content, for the evaluation cache."""
    return fingerprint(benchmark)


def evaluate_checkpoint(
    folder: str,
    checkpoint: str,
    benchmark: Benchmark,
    protocol: EvaluationProtocol,
    threads: int,
    version: str = "",
    cache_dir: str = "",
) -> Evaluation:
    """Score a checkpoint on the test splits, or read the evaluation of the same content from the cache.

    Args:
        version: of the data, see `data_version`; "" does not use the cache.
        cache_dir: of the cache; "" is the user's cache folder.
    """
    torch.set_num_threads(threads)
    device = choose_device("auto")
    set_decoders(gpu_share(device), threads)
    data = Folder(folder).read(checkpoint)
    content = checkpoints.unpack(data, checkpoint, device)
    code = {**METHODS.digests(content["method"]), **NETWORKS.digests(content["options"].get("network", ""))}
    for each in protocol.code:
        code |= each.digests_here()

    def compute(state: Path | None) -> Evaluation:
        network = checkpoints.classifier_of(content, device, checkpoint)
        generator = torch.Generator(device).manual_seed(TEST_SEED)
        return evaluate(network, benchmark, protocol, generator, device, state)

    if not version:
        return compute(None)
    cache = EvaluationCache(cache_dir_of(cache_dir) / "evaluations")
    known = " ".join([version, *sorted(code.values())])
    return cache.reuse(evaluation_key(data, protocol, known, TEST_SEED), compute)


def attack_examples(
    folder: str, checkpoint: str, benchmark: Benchmark, count: int = 12
) -> dict[str, Any] | None:
    """Return outliers before and after the training attack of a trial, or None for a method without outliers.

    Returns:
        {"before", "after": images (count, h, w, c) in [0, 1], "label": attack, epsilon and sigma}.
    """
    content = checkpoints.unpack(Folder(folder).read(checkpoint), checkpoint)
    options = build(METHODS[content["method"]].options, content["options"])
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


def predictor_of(
    folder: str,
    checkpoint: str,
    benchmark: Benchmark,
    score: str,
    source: dict[str, Any],
    threads: int | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a checkpoint's classifier and the facts of its predictor, fitted on the validation images.

    Args:
        score: the outlier score.
        source: where the checkpoint comes from; what the checkpoint itself tells is added.
        threads: of torch; None leaves them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device("auto")
    data = Folder(folder).read(checkpoint)
    content = checkpoints.unpack(data, checkpoint, device)
    network = checkpoints.classifier_of(content, device, checkpoint)
    told = {
        "dataset": content["dataset"]["name"],
        "method": content["method"],
        "network": str(content["options"].get("network", "")),
        "epoch": content["epoch"],
        "checkpoint_sha256": hashlib.sha256(data).hexdigest(),
    }
    validation = benchmark.labelled(Split.VAL_ID)
    facts = facts_of(network, checkpoints.info_of(content), score, validation, {**source, **told}, device)
    return network, facts


def registrable_predictor(
    folder: str, checkpoint: str, benchmark: Benchmark, score: str, source: dict[str, Any], threads: int
) -> Registrable:
    """Return the predictor of a checkpoint as a model registry keeps it; see `predictor_of`."""
    network, facts = predictor_of(folder, checkpoint, benchmark, score, source, threads)
    return registrable(model_bytes(network, facts), facts)
