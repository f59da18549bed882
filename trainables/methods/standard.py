"""Standard training: cross-entropy alone; also the baseline and the pretraining of the other methods."""

import os
import shutil

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.base.seeds import derive_seed
from trainables.networks import Classifier, build_for
from trainables.options.classifiers import StandardOptions
from trainables.options.common import TrainingOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, Trainer

#: Forward, backward to the inputs, backward to the weights.
TRAINING_PASSES = 3.0


def initial_network(options: TrainingOptions, context: Context) -> Classifier:
    """Return the options' classifier on the trial's device, its weights drawn from a seed of their own.

    The weights depend on (seed, "weights") only, not on what was drawn before: arms of a comparison start
    from the same network whatever else they prepare.

    Raises:
        InputError: compile where there is no compiler.
    """
    if options.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise InputError(
            "compile is true but there is no C++ compiler here; install g++, or leave compile out"
        )
    info = context.data.info
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(context.streams.seed, "weights"))
        network = build_for(options, info, published=True)
    network.body.bf16, network.body.compiled = options.precision == "bf16", options.compile
    if options.channels_last:  # convolutions take the layout of their weights
        network.to(memory_format=torch.channels_last)
    return network.to(context.device)


class Standard(ClassifierMethod):
    """Cross-entropy on the training split, from scratch or from the pretrained classifier.

    A method that differs from it in its loss alone extends it and overrides `loss`.
    """

    options: StandardOptions

    def __init__(self, options: StandardOptions, context: Context) -> None:
        super().__init__(options, context)
        self.network = initial_network(options, context)
        if options.from_pretrained:
            self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.trainer = Trainer(self.network, options, len(self.loader))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return {"loss"}."""
        self.network.train()
        for images, labels in self.loader:
            self.trainer.step(self.loss(images, labels))
        return self.end_epoch(epoch)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch, images (n, c, h, w) in [0, 1] and labels (n,), as a scalar."""
        return F.cross_entropy(self.network(images), labels, self.class_weights)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        self.passes += TRAINING_PASSES
        return self.trainer.epoch_means()
