"""Outlier generators that are fitted to the training images: their interface, a PCA Gaussian and a VAE.

A generator decodes latents from a normal distribution of standard deviation sigma. Sigma 1 is the prior it was fitted
with; a larger sigma gives less likely images, that is outliers further from the training data.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

from trainables.data.types.benchmark import LabelledImages

Array = np.ndarray
State = dict[str, Array]

FIT_N = 10_000  #: generators are fitted on at most so many training images, evenly spaced
FIT_VALUES = 200_000_000  #: ... with at most so many pixels in all, 1.6 GB: 1328 images of 3 x 224 x 224


class OutlierGenerator(Protocol):
    """A generator of outliers: fitted once per training set, then sampled at any sigma.

    Attributes:
        version: part of the cache key; raise it whenever `fit` gives another state.
    """

    version: int

    def fit(self, train: LabelledImages) -> None:
        """Fit to the training images; deterministic, and leaves every global random state as it was."""

    def state(self) -> State:
        """Return the fitted state as plain arrays."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Load what `state` returned; KeyError or ValueError if it is not complete."""

    def sample(self, count: int, sigma: float, rng: np.random.Generator) -> Array:
        """Return (count, c, h, w) float32 in [0, 1]; equal latents at every sigma for equal random states."""


class PCAGaussian:
    """A Gaussian on the first principal components: x = mean + sigma W z, z ~ N(0, 1), clipped to [0, 1].

    The columns of W are the principal axes times their standard deviations, so that sigma = 1 has the
    variance of the training images along them. Needs no training.
    """

    version = 2
    components = 20

    def fit(self, train: LabelledImages) -> None:
        from sklearn.utils.extmath import randomized_svd

        x = flat_unit(train)
        mean = x.mean(0)
        k = min(self.components, len(x) - 1, x.shape[1])
        if x.shape[1] <= 1024:
            _, values, axes = np.linalg.svd(x - mean, full_matrices=False)
        else:  # an exact one takes minutes on 3 x 32 x 32
            _, values, axes = randomized_svd(x - mean, k, random_state=0)
        axes, values = axes[:k], values[:k] / np.sqrt(len(x) - 1)
        # the sign of an axis is arbitrary and differs between LAPACKs: the largest entry is made positive
        signs = np.sign(axes[np.arange(k), np.abs(axes).argmax(1)])
        self._state = {
            "mean": mean,
            "axes": np.ascontiguousarray(axes * (signs * values)[:, None]),
            "shape": np.array(train.images.shape[1:]),
        }

    def state(self) -> State:
        return self._state

    def load_state(self, state: Mapping[str, Array]) -> None:
        self._state = {name: state[name] for name in ("mean", "axes", "shape")}

    def sample(self, count: int, sigma: float, rng: np.random.Generator) -> Array:
        axes = self._state["axes"]
        z = rng.standard_normal((count, len(axes)))
        images = self._state["mean"] + sigma * (z @ axes)
        clipped: Array = np.clip(images, 0, 1).astype(np.float32).reshape(count, *self._state["shape"])
        return clipped


class VAE:
    """A small variational auto-encoder with 8 latents; sampled by decoding z ~ N(0, sigma^2).

    One hidden layer on either side, Bernoulli likelihood on grey levels, Adam; 1,000 steps of 100 images,
    about two seconds for 8x8 images. Trained on the CPU with one thread from a fixed seed.

    Source:
        Kingma & Welling 2014, appendix C; latent and hidden sizes are ours.
    """

    version = 2
    latents = 8
    hidden = 128
    steps: ClassVar[int] = 1000
    batch = 100

    def fit(self, train: LabelledImages) -> None:
        import torch

        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                with torch.enable_grad(), torch.autocast("cpu", enabled=False):
                    self._state = self._train(flat_unit(train).astype(np.float32))
        finally:
            torch.set_num_threads(threads)
        self._state["shape"] = np.array(train.images.shape[1:])

    def _train(self, pixels: Array) -> State:
        import torch
        from torch import nn
        from torch.nn import functional as F

        x_all = torch.from_numpy(pixels)
        d, k = x_all.shape[1], self.latents
        encoder = nn.Sequential(nn.Linear(d, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 2 * k))
        decoder = nn.Sequential(nn.Linear(k, self.hidden), nn.ReLU(), nn.Linear(self.hidden, d))
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
        for _ in range(self.steps):
            x = x_all[torch.randint(len(x_all), (self.batch,))]
            mean, log_variance = encoder(x).chunk(2, 1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
            optimizer.zero_grad()
            ((reconstruction + divergence) / len(x)).backward()
            optimizer.step()
        named = zip(("w1", "b1", "w2", "b2"), decoder.parameters(), strict=True)
        return {name: parameter.detach().double().numpy() for name, parameter in named}

    def state(self) -> State:
        return self._state

    def load_state(self, state: Mapping[str, Array]) -> None:
        self._state = {name: state[name] for name in ("w1", "b1", "w2", "b2", "shape")}

    def sample(self, count: int, sigma: float, rng: np.random.Generator) -> Array:
        s = self._state
        z = sigma * rng.standard_normal((count, self.latents))
        logits = np.maximum(z @ s["w1"].T + s["b1"], 0) @ s["w2"].T + s["b2"]
        images = 0.5 * (1 + np.tanh(0.5 * logits))  # the logistic function, without overflow
        shaped: Array = images.astype(np.float32).reshape(count, *s["shape"])
        return shaped


def flat_unit(data: LabelledImages) -> Array:
    """Return at most FIT_N evenly spaced images, FIT_VALUES pixels, as (n, pixels) float64 in [0, 1]."""
    n = min(len(data), FIT_N, max(1, FIT_VALUES // math.prod(data.images.shape[1:])))
    rows = np.arange(n) * len(data) // n
    x = np.asarray(data.images[rows]).reshape(n, -1)
    return x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64)
