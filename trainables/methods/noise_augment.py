"""Training with random noise on a share of every batch: the baselines of adversarial noise training."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.functional.noise import composition, draw_sigmas, noise_length, random_noise
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.options.ant import NoiseAugmentOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, Trainer


@dataclass(frozen=True)
class NoiseKind:
    """A kind of noise.

    Attributes:
        sigmas: standard deviations of which each image gets one, unless the options give others; () for the one `sigma`
            of the options.
        multiply: the noise is multiplied by the image.
    """

    sigmas: tuple[float, ...] = ()
    multiply: bool = False


#: Upstream's standard deviations: those of ImageNet-C's Gaussian and speckle noise. The first is thus a test
#: corruption there and the second a hold-out one; report accuracy without the noises beside the mean.
KINDS = {
    "gaussian": NoiseKind(),
    "gaussian_multi": NoiseKind((0.08, 0.12, 0.18, 0.26, 0.38)),
    "speckle": NoiseKind((0.15, 0.2, 0.35, 0.45, 0.6), multiply=True),
}


class NoiseAugment(ClassifierMethod):
    """Cross-entropy on batches of which a share carries Gaussian, multi-sigma Gaussian or speckle noise.

    With `rms` or `l2` above 0 the noise has exactly that length on every image, as in adversarial noise
    training, and sigma plays no part: the control that shares everything with it but the adversary.

    Source:
        Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions,
        modes Gauss_single, Gauss_mult and Speckle; half of each batch is noisy there, as by default here.
    """

    options: NoiseAugmentOptions

    def __init__(self, options: NoiseAugmentOptions, context: Context) -> None:
        """Build the network and its loader.

        Raises:
            InputError: a negative sigma in `sigmas`.
        """
        super().__init__(options, context)
        self.kind = KINDS[options.kind]
        sigmas = options.sigmas or self.kind.sigmas
        if any(not sigma >= 0 for sigma in sigmas):
            raise InputError(f"sigmas is {options.sigmas}; every value must be at least 0")
        self.sigmas = torch.tensor(sigmas, device=self.device)
        self.network = initial_network(options, context)
        if options.from_pretrained:
            self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.l2 = noise_length(context.data.info.shape, options.rms, options.l2)
        # no generators here: all noisy rows are of one kind
        self.noisy = composition(self.loader.batch_size, options.p_clean, 1.0, 1.0).noisy
        self.trainer = Trainer(self.network, options, len(self.loader))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return {"loss"}."""
        self.network.train()
        for images, labels in self.loader:
            self.trainer.step(
                F.cross_entropy(self.network(self.augmented(images)), labels, self.class_weights)
            )
        self.passes += TRAINING_PASSES
        return self.trainer.epoch_means()

    def augmented(self, images: Tensor) -> Tensor:
        """Return a new batch whose first rows carry noise; batches are shuffled, so any rows would do."""
        stream = self.streams.get("noise")
        rows = images[: self.noisy]
        sigma: float | Tensor = self.options.sigma
        if self.kind.sigmas:
            sigma = draw_sigmas(self.sigmas, len(rows), stream)
        noisy = random_noise(rows, stream, sigma=sigma, multiply=self.kind.multiply, l2=self.l2)
        return torch.cat([noisy, images[self.noisy :]])
