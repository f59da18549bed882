"""The interface of a post-hoc outlier detector: fitted on training images, then scores any images."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.detectors.features import batched, features_of, first_fit_images
from trainables.networks import Classifier


class Detector(ABC):
    """An outlier score fitted to one network, which runs in eval mode and is left as it was."""

    def for_dataset(self, dataset: str) -> Self:
        """Return it with the settings that its paper has for a data set; itself where it has none."""
        return self

    @abstractmethod
    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        """Look at the network, and at training images as far as the score needs them; return self.

        Args:
            network: on the device; kept, not copied.
            train: at most `features.FIT_IMAGES` are read, the same ones every time.

        Raises:
            InputError: too few images, or a network that does not suit.
        """

    @abstractmethod
    def score(self, images: Tensor) -> Tensor:
        """Return the outlier scores (n,) float64 on the CPU; higher = more OOD.

        Args:
            images: (n, c, h, w) in [0, 1], or uint8; on any device.
        """


class FeatureDetector(Detector):
    """A detector that sees an image only as its penultimate features, so that several can share them."""

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        self._network, self._device = network, torch.device(device)
        data = first_fit_images(train)
        features = features_of(network, data.images, self._device)
        return self.fit_features(features, torch.tensor(data.labels), network.head)

    def score(self, images: Tensor) -> Tensor:
        return self.score_features(batched(self._network, self._network.features, images, self._device))

    @abstractmethod
    def fit_features(self, features: Tensor, labels: Tensor, head: nn.Linear) -> Self:
        """Fit on features (n, d) float32 of images with labels (n,), which `head` maps to the logits."""

    @abstractmethod
    def score_features(self, features: Tensor) -> Tensor:
        """Return the scores (n,) float64 on the CPU of features (n, d)."""
