"""The clean classifier that fine-tuning starts from: trained once per data set, network and seed."""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from trainables.base.seeds import derive_seed
from trainables.base.streams import Streams, preserved_rng
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import Split
from trainables.methods.standard import Standard
from trainables.networks import Classifier, build_for
from trainables.networks.weights import load_weights
from trainables.options.classifiers import StandardOptions
from trainables.options.common import PretrainOptions, TrainingOptions, balance_of
from trainables.options.networks import NETWORKS
from trainables.training.method import Context
from trainables.training.trained_once import trained_once

#: Hashed into every file's name: raise it when the training or a network changes.
FORMAT = 2
#: Of `PretrainOptions`; hashed only where they are not at their defaults, so that a hash of before stays.
LATER_FIELDS = ("dropout", "ema", "warmup")


def pretrained_state(
    options: TrainingOptions,
    pretrain: PretrainOptions,
    benchmark: Benchmark,
    cache_dir: Path,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Return the weights of the clean classifier: those of a given file, of the cache, or trained now.

    Processes that ask for the same weights at once train them once: the others wait for its lock. The
    caller's global random generators are left as they were, trained or not.

    Args:
        options: which network and seed; the fine-tuning's own learning rate, dropout and epochs play no part.
        pretrain: how to train, or the file to start from (`checkpoint`).
        benchmark: only its training split is read, so it may be sealed.
        cache_dir: `<cache_dir>/pretrained/<hash>.pt` is read or written; made if missing.

    Returns:
        The state dict of `networks.build(options.network, ...)`, on the CPU.

    Raises:
        DataFileError: the given checkpoint is missing, damaged, holds more than tensors, or does not fit the
            network.
        TrainingFailed: the training diverged.
    """
    device = torch.device(device)
    with preserved_rng(device):
        template = _template(options, benchmark)
        if pretrain.checkpoint:
            return load_weights(
                Path(pretrain.checkpoint), template, f"pretrain.checkpoint {pretrain.checkpoint}"
            )
        path = Path(cache_dir) / "pretrained" / f"{content_hash(options, pretrain, benchmark)}.pt"
        return trained_once(
            path,
            train=lambda: _train(options, pretrain, benchmark, device),
            read=lambda file: load_weights(file, template, str(file)),
            content=lambda state: {"format": FORMAT, "network": state},
        )


def content_hash(options: TrainingOptions, pretrain: PretrainOptions, benchmark: Benchmark) -> str:
    """Return 32 hexadecimal digits of everything that decides the weights: data, network, seed, options."""
    info = benchmark.info
    recipe = {
        "format": FORMAT,
        "dataset": info.name,
        "input": [info.num_classes, *info.shape, *info.mean, *info.std],
        "arrays": fingerprint_images(benchmark.labelled(Split.TRAIN)),
        "network": options.network,
        "seed": options.seed,
        "pretrain": {
            field.name: value
            for field in dataclasses.fields(pretrain)
            if field.name != "checkpoint"
            and ((value := getattr(pretrain, field.name)) != field.default or field.name not in LATER_FIELDS)
        },
    }
    code = sorted(NETWORKS.digests(options.network).values())
    balance = balance_of(options)
    more = {
        "balance": balance if balance != "none" else "",
        "pretrained": options.pretrained,
        "normalize": options.normalize == "none",
        "code": code,
    }
    recipe |= {name: value for name, value in more.items() if value}  # without them a hash of before stays
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def _template(options: TrainingOptions, benchmark: Benchmark) -> Classifier:
    """Return the network's shape without memory or random numbers."""
    with torch.device("meta"):
        return build_for(options, benchmark.info, dropout=0.0)


def _train(
    options: TrainingOptions, pretrain: PretrainOptions, benchmark: Benchmark, device: torch.device
) -> dict[str, Tensor]:
    recipe = StandardOptions(
        dataset=options.dataset,
        network=options.network,
        pretrained=options.pretrained,
        normalize=options.normalize,
        seed=options.seed,
        epochs=pretrain.epochs,
        lr=pretrain.lr,
        optimizer=pretrain.optimizer,
        weight_decay=pretrain.weight_decay,
        schedule=pretrain.schedule,
        batch_size=pretrain.batch_size,
        augment=pretrain.augment,
        balance=balance_of(options),
        dropout=pretrain.dropout,
        ema=pretrain.ema,
        warmup=pretrain.warmup,
    )
    context = Context(
        data=benchmark,
        streams=Streams(derive_seed(options.seed, "pretrain"), device),
        device=device,
        pretrained=dict,  # never called: this is the training that makes it
        outliers=lambda _options, _seed: None,
    )
    method = Standard(recipe, context)
    for epoch in range(pretrain.epochs):
        method.train_epoch(epoch)
    return {key: value.detach().cpu().clone() for key, value in method.classifier().state_dict().items()}
