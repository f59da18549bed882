"""ODIN: softmax at a high temperature, of an image moved towards its predicted class."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.detectors.base import Detector
from trainables.evaluation.detectors.features import batched
from trainables.evaluation.metrics.scores import msp
from trainables.networks import Classifier


@dataclass
class Odin(Detector):
    """ODIN: the softmax at a high temperature, of an image moved towards its predicted class.

    x~ = x - epsilon sign grad_x CE(f(x) / T, argmax f(x)); the score is that of the largest p of softmax f(x~) / T.
    As every network here takes [0, 1] and normalises inside, epsilon is in pixel units without a division by the
    standard deviation. x~ may leave [0, 1], as in the paper.

    Source:
        Liang et al. 2018. Own code for the last step: at T = 1000 every largest p is 1/classes to within some 1e-3,
        which float32 resolves coarsely. Here the score is the log-odds against p in float64, which rises strictly
        with -p. pytorch-ood 0.4 ranks alike up to that rounding; versions before it differ in more.
    """

    temperature: float = 1000.0
    epsilon: float = 0.0014

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        self._network, self._device = network, torch.device(device)
        return self

    def score(self, images: Tensor) -> Tensor:
        return batched(self._network, self._of_batch, images, self._device).double().cpu()

    def _of_batch(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            logits = self._network(x) / self.temperature
            # the sum, not the mean: 1/T and 1/n together may leave nothing of a confident image's gradient
            loss = F.cross_entropy(logits, logits.argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
        moved = x.detach() - self.epsilon * gradient.sign()
        return msp(self._network(moved).double() / self.temperature)
