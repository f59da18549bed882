"""The interface of a training method (plain PyTorch, one epoch per call, exactly resumable), and its `Trainer`."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables import networks
from trainables.base.errors import InputError, TrainingFailed, unknown
from trainables.base.seeds import derive_seed
from trainables.base.streams import Streams
from trainables.data.loading.class_balance import class_weights
from trainables.data.loading.device_loader import DeviceLoader, OutlierLoader, to_device
from trainables.data.loading.stream_loader import StreamLoader, make_loader
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import DatasetInfo, Split
from trainables.networks import Classifier
from trainables.networks.attack_copy import AttackCopy
from trainables.options.common import TrainingOptions, balance_of

StateDict = Mapping[str, Any]


@dataclass
class Context:
    """What a method is given besides its options.

    Attributes:
        data: the benchmark; sealed while searching, so a method can only read train and validation.
        streams: the trial's random streams.
        device: where to train.
        pretrained: called with no argument, returns the state dict of the clean classifier for this
            data set, network and seed (trained once, cached); only methods that fine-tune call it.
        outliers: called with (OutlierOptions, seed), returns (n, c, h, w) auxiliary outliers.
        shared_start: called with (options, train), returns what `train(options, context)` returns: tensors and plain
            values that trials of the same options start from (trained once, cached). The seed of these options is
            replaced by that of the pretrained classifier, which all trials of one search have in common.
        folder: where artifacts of the trial may be written (sample grids), or None.
    """

    data: Benchmark
    streams: Streams
    device: torch.device
    pretrained: Callable[[], StateDict]
    outliers: Callable[[Any, int], Any]
    folder: str | None = None
    shared_start: Callable[[Any, Callable[[Any, "Context"], dict[str, Any]]], dict[str, Any]] | None = None


class Method(ABC):
    """One training method of one trial.

    Life: built once; `train_epoch(0)`, `train_epoch(1)`, ... up to `options.epochs`; between two epochs
    `state_dict` may be taken. A new object of the same options that loads this state continues bit for
    bit on the CPU. Early stopping may end the life after any epoch; the schedule's length never changes.

    Attributes:
        options: the checked options.
        network: the classifier; inputs (n, c, h, w) in [0, 1], logits (n, classes) out.
        passes: forward-equivalents per image spent so far (a backward to the inputs counts 1, to the weights
            another 1), for comparisons at equal budget.
        weighed: whether the loss has asked for `class_weights`.
    """

    options: TrainingOptions
    network: nn.Module

    def __init__(self, options: Any, context: Context) -> None:
        self.options = options
        self.context = context
        self.streams = context.streams
        self.device = context.device
        self.passes = 0.0
        self.weighed = False
        self._attack_copy: AttackCopy | None = None

    def attacked(self, network: Classifier, mode: str = "eval") -> Classifier:
        """Return what to attack in this training step: the network itself or, for bf16 and compile, its copy.

        The copy is refreshed, so ask once per step. In mode "train" batch statistics and dropout are wanted, which
        a copy has not.
        """
        options = self.options
        if mode == "train" or (options.precision == "float32" and not options.compile):
            return network
        if self._attack_copy is None:
            dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
            self._attack_copy = AttackCopy(network, dtype)
        return self._attack_copy.refresh()

    def training_loader(self) -> DeviceLoader | StreamLoader:
        """Return the training images in batches, shuffled by the stream "shuffle"."""
        return make_loader(
            self.context.data.labelled(Split.TRAIN),
            self.options.batch_size,
            self.device,
            self.streams.get("shuffle"),
            self.options.augment,
            balanced=self.balance == "sampling",
        )

    @property
    def balance(self) -> str:
        """Return how unbalanced classes are treated: "none" for a method without that option."""
        return balance_of(self.options)

    @property
    def class_weights(self) -> Tensor | None:
        """Return (classes,) weights of the cross-entropy for balance=weights, None where all classes count alike."""
        if self.balance != "weights":
            return None
        if not self.weighed:
            labels = self.context.data.labelled(Split.TRAIN).labels
            self._weights = to_device(class_weights(labels, self.context.data.info.num_classes), self.device)
            self.weighed = True
        return self._weights

    def outlier_loader(self) -> OutlierLoader:
        """Return the auxiliary outliers of a method whose options have `outliers`, by the stream "outliers"."""
        options: Any = self.options
        images = self.context.outliers(options.outliers, derive_seed(options.seed, "outliers"))
        kind = options.augment if options.outliers.augment else "none"
        return OutlierLoader(images, self.device, self.streams.get("outliers"), kind)

    @abstractmethod
    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train epoch `epoch` (from 0) and return its means: one entry per loss term, at least "loss"."""

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Count what epoch `epoch` cost and return its means; the end of `train_epoch` where a pack takes the steps.

        Raises:
            TrainingFailed: the loss is not finite.
        """
        raise NotImplementedError

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything but the streams that a resume needs; tensors and plain values only."""

    @abstractmethod
    def load_state_dict(self, state: StateDict) -> None:
        """Continue from what `state_dict` returned."""

    @classmethod
    def build_classifier(cls, options: Any, info: DatasetInfo) -> nn.Module:
        """Return an untrained classifier of the kind that `classifier` returns, for loading weights into."""
        return networks.build_for(options, info)

    def classifier(self) -> nn.Module:
        """Return the network to evaluate: the weight average where there is one."""
        return self.network


def make_optimizer(parameters: Any, options: Any) -> torch.optim.Optimizer:
    """Return Adam, or SGD with Nesterov momentum, as the options say (lr, momentum, weight_decay).

    Raises:
        InputError: another `optimizer`.
    """
    momentum = getattr(options, "momentum", 0.9)
    if options.optimizer == "adam":
        return torch.optim.Adam(
            parameters,
            lr=options.lr,
            betas=(momentum, 0.999),
            weight_decay=options.weight_decay,
            foreach=True,
        )
    if options.optimizer != "sgd":
        raise InputError(unknown("optimizer", options.optimizer, ("adam", "sgd")))
    return torch.optim.SGD(
        parameters,
        lr=options.lr,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=options.weight_decay,
        foreach=True,
    )


def schedule_factor(options: Any, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the largest learning rate at a step; a pure function, so nothing to checkpoint.

    one_cycle rises linearly from 1/25 over the first `options.warmup` of the steps and then falls by a cosine to 0;
    cosine falls from 1 to 1e-6 / lr; step multiplies by gamma every step_size epochs; constant is 1. The length is
    that of `options.epochs`, whether or not early stopping lets the trial get there.

    Args:
        step: from 0, over the whole training.

    Raises:
        InputError: another `schedule`.
    """
    total = max(1, options.epochs * steps_per_epoch)
    progress = min(1.0, step / total)
    if options.schedule == "one_cycle":
        if progress < options.warmup:
            return float(1 / 25 + (1 - 1 / 25) * progress / options.warmup)
        return 0.5 * (1 + math.cos(math.pi * (progress - options.warmup) / (1 - options.warmup)))
    if options.schedule == "cosine":
        last = min(1.0, 1e-6 / options.lr) if options.lr > 0 else 0.0
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    if options.schedule == "step":
        return float(options.gamma ** (step // steps_per_epoch // options.step_size))
    if options.schedule != "constant":
        raise InputError(unknown("schedule", options.schedule, ("one_cycle", "cosine", "step", "constant")))
    return 1.0


class Trainer:
    """The optimiser, schedule, clipping and weight average that classifier methods share.

    A method calls `step(loss)` for each batch. Losses are summed on the device; nothing is read back
    before the epoch ends.
    """

    def __init__(self, network: nn.Module, options: TrainingOptions, steps_per_epoch: int) -> None:
        self.network = network
        self.options = options
        self.steps_per_epoch = steps_per_epoch
        self.trainable = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.trainable, options)
        self.steps = 0
        self.average = copy.deepcopy(network).requires_grad_(False) if options.ema else None
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def step(self, loss: Tensor, **terms: Tensor) -> None:
        """Take one optimiser step on the loss, and remember it and its terms for the epoch's means."""
        factor = schedule_factor(self.options, self.steps, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.trainable, self.options.grad_clip)
        self.optimizer.step()
        self.steps += 1
        if self.average is not None:
            self._update_average(self.average)
        for name, value in {"loss": loss, **terms}.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._count += 1

    @torch.no_grad()
    def _update_average(self, average: nn.Module) -> None:
        # the early ramp lets the average forget the first weights: (1 + s) / (10 + s)
        decay = min(self.options.ema, (1 + self.steps) / (10 + self.steps))
        live = dict(self.network.named_parameters())
        for name, parameter in average.named_parameters():
            parameter.lerp_(live[name], 1 - decay)
        buffers = dict(self.network.named_buffers())
        for name, buffer in average.named_buffers():
            buffer.copy_(buffers[name])  # its own copy: upstream's alias let live statistics leak in

    def count_packed_steps(self, steps: int, sums: Mapping[str, Tensor]) -> None:
        """Record steps that a pack has taken on these weights, and the sums of their losses by name."""
        self.steps += steps
        self._count += steps
        self._sums = dict(sums)

    def epoch_means(self) -> dict[str, float]:
        """Return the means since the last call.

        Raises:
            TrainingFailed: the loss is not finite.
        """
        means = {name: float(total) / max(1, self._count) for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        for name, value in means.items():
            if not math.isfinite(value):
                raise TrainingFailed(f"training {name} is {value} after {self.steps} steps (diverged)")
        return means

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
