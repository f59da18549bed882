"""The pretrained classifier as it is: what fine-tuning is compared with. Nothing is learnt."""

import torch
from torch.nn import functional as F

from trainables.methods.standard import initial_network
from trainables.options.classifiers import PretrainedOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, Trainer


class Pretrained(ClassifierMethod):
    """A classifier that keeps its pretrained weights; an epoch only measures its loss on the training images."""

    options: PretrainedOptions

    def __init__(self, options: PretrainedOptions, context: Context) -> None:
        super().__init__(options, context)
        self.network = initial_network(options, context)
        self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.trainer = Trainer(self.network, options, len(self.loader))

    @torch.no_grad()
    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Return {"loss"}, the mean cross-entropy of the batches in eval mode."""
        self.network.eval()
        losses = [
            F.cross_entropy(self.network(images), labels, self.class_weights)
            for images, labels in self.loader
        ]
        self.passes += 1
        return {"loss": float(torch.stack(losses).mean())}
