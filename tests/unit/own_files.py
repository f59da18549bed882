"""Files of a user's own that tests write into a folder: what they define is named by `--study`, `--set` and so on."""

METHOD = '''
"""Mixup, in a file of its own."""
from dataclasses import dataclass
import torch
from torch.nn import functional as F
from trainables.base.schema import option
from trainables.methods.standard import Standard
from trainables.options.classifiers import StandardOptions

@dataclass(frozen=True)
class MixupOptions(StandardOptions):
    """Cross-entropy on convex combinations of two images and their labels."""
    alpha: float = option(0.4, "both parameters of the Beta law of the mixing weight", low=0.01, high=10.0)

class Mixup(Standard):
    options: MixupOptions

    def loss(self, images, labels):
        stream = self.streams.get("mixup")
        order = torch.randperm(len(images), generator=stream, device=images.device)
        gammas = torch._standard_gamma(torch.full((2,), self.options.alpha), generator=stream)
        weight = gammas[0] / gammas.sum()
        logits = self.network(weight * images + (1 - weight) * images[order])
        return weight * F.cross_entropy(logits, labels) + (1 - weight) * F.cross_entropy(logits, labels[order])
'''

NETWORK = """
from torch import nn

def network(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 16), nn.ReLU(), nn.Linear(16, classes))
"""

PARTS = '''
import numpy as np
import optuna
import torch
from trainables.evaluation.detectors.base import FeatureDetector

def sprinkle(images, generator, shared):
    """A few pixels, all the way up."""
    return (torch.rand(images.shape, generator=generator, device=images.device) < 0.1).float()

class FeatureNorm(FeatureDetector):
    """Minus the L1 norm of the penultimate features."""

    def fit_features(self, features, labels, head):
        return self

    def score_features(self, features):
        return -features.double().abs().sum(1).cpu()

def second_logit(logits):
    """Minus the second largest logit."""
    return -logits.topk(2).values[:, 1]

def stripes(count, shape, rng):
    """Rows of one brightness each."""
    return np.broadcast_to(rng.random((count, 1, shape[1], 1)), (count, *shape)).astype(np.float32)

def halton(space, seed):
    """Halton's sequence."""
    return optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=seed)
'''

DATA = '''
import numpy as np

def bars(count, seed):
    """Noisy bars in four directions, 8 x 8, grey."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    across, down = np.meshgrid(np.arange(8), np.arange(8))
    steps = np.array([(0, 1), (1, 0), (1, 1), (1, -1)])[labels]
    phase = rng.uniform(0, 4, (count, 1, 1)) + steps[:, 0, None, None] * across + steps[:, 1, None, None] * down
    images = 0.5 + 0.4 * np.sin(phase * np.pi / 2) + 0.05 * rng.standard_normal((count, 8, 8))
    return images.clip(0, 1).astype(np.float32), labels

def data():
    blobs = np.random.default_rng(9).random((80, 4, 4), dtype=np.float32).repeat(2, 1).repeat(2, 2)
    return {"train": bars(600, 0), "test": bars(200, 1), "near": {"blobs": blobs}}
'''

STUDY = """
from search_spaces.domain import Choice, Float
from search_spaces.study import Arm, Objective, Study
from own_method import Mixup
from own_network import network

STUDY = Study(
    name="mixup_strength",
    question="Which strength of mixup is best?",
    claim="Mixup is more accurate than plain training",
    source="Zhang et al. 2018",
    method=Mixup,
    dataset="digits-open",
    space={"network": Choice((network, "small_cnn")), "alpha": Float(0.1, 2.0, log=True)},
    objectives=(Objective("val/accuracy/clean"),),
    arms=(Arm("plain", "baseline", method="standard", drop=("alpha",), about="no mixing"),),
    headline=("test/accuracy/clean", "test/auroc/near"),
    trials=2,
    max_epochs=2,
    validation={"groups": ("clean", "ood")},
    protocol={"groups": ("clean", "ood")},
)
"""

FILES = {
    "own_method.py": METHOD,
    "own_network.py": NETWORK,
    "own_parts.py": PARTS,
    "own_data.py": DATA,
    "mine.py": STUDY,
}
