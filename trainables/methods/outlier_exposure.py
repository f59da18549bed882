"""Outlier exposure: fine-tune a classifier to be undecided on auxiliary outliers."""

from typing import Any

import torch
from torch import Tensor

from trainables.functional.losses import outlier_exposure
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.options.classifiers import OEOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, StateDict, Trainer


class OE(ClassifierMethod):
    """Cross-entropy on inliers plus uniformity on outliers, from the pretrained classifier.

    Source:
        Hendrycks et al. 2019, Deep Anomaly Detection with Outlier Exposure. What differs from the AOE code,
        which trains the same loss: outliers are normalised and augmented like inliers (`outlier_norm=raw01`
        undoes the first), reshuffled every round, and never end an epoch early.
    """

    options: OEOptions

    def __init__(self, options: OEOptions, context: Context) -> None:
        super().__init__(options, context)
        self.network = initial_network(options, context)
        self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.outliers = self.outlier_loader()
        self.outlier_count = max(1, round(options.outliers.ratio * self.loader.batch_size))
        self.trainer = Trainer(self.network, options, len(self.loader))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return {"loss", "ce", "uniformity"}."""
        self.network.train()
        for images, labels in self.loader:
            outliers = self.outliers.next(self.outlier_count)
            images, outliers = self.perturb(images, labels, outliers, epoch)
            logits = self.joint_logits(images, outliers)
            loss, ce, uniformity = outlier_exposure(
                logits[: len(images)],
                labels,
                logits[len(images) :],
                self.options.outliers.weight,
                self.options.oe_reduction,
                self.class_weights,
            )
            self.trainer.step(loss, ce=ce, uniformity=uniformity)
        return self.end_epoch(epoch)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        self.passes += self.passes_per_inlier()
        return self.trainer.epoch_means()

    def perturb(self, images: Tensor, labels: Tensor, outliers: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the inliers and outliers to train on; plain outlier exposure changes neither."""
        return images, outliers

    def joint_logits(self, images: Tensor, outliers: Tensor) -> Tensor:
        """Return the logits of inliers and then outliers from one forward, so that batch norm sees both."""
        if self.options.outlier_norm == "raw01":
            logits: Tensor = self.network.body(torch.cat([self.network.normalize(images), outliers]))
        else:
            logits = self.network(torch.cat([images, outliers]))
        return logits

    def outlier_ratio(self) -> float:
        """Return the outliers per inlier of a batch, as drawn."""
        return self.outlier_count / self.loader.batch_size

    def passes_per_inlier(self) -> float:
        """Return what one epoch costs per inlier, in forward passes of one image."""
        return TRAINING_PASSES * (1 + self.outlier_ratio())

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "outliers": self.outliers.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.outliers.load_state_dict(state["outliers"])
