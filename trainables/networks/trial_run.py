"""A trial run of a network on two images before a study starts: what training and attacks will ask of it."""

import copy
from typing import Any

import torch
from torch import Tensor

from trainables.base.errors import InputError, foreign_code
from trainables.networks import build_for
from trainables.networks.attack_copy import AttackCopy
from trainables.networks.body import Classifier
from trainables.networks.outside import probe
from trainables.options.networks import NETWORKS


def try_network(options: Any, info: Any) -> Classifier:
    """Return the classifier of some options for the images of a data set; only shapes of this project's own.

    Args:
        options: `trainables.options.common.RunOptions`.
        info: of the data set (`DatasetInfo`).

    Raises:
        InputError: it cannot be built, takes no images of this size, makes no logits of these classes, or cannot be
            trained or attacked as the options say.
    """
    outside = NETWORKS[options.network].outside
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if outside else "meta"):
        network = build_for(options, info, dropout=0.0, published=True)
        if outside:
            size = f"{info.shape[1]} x {info.shape[2]}"
            problem = f"network {options.network}: it cannot be trained on images of {size}: "
            with foreign_code(InputError, problem, passed=(InputError,)):
                _train_once(network, info.shape)
                if getattr(options, "precision", "") == "bf16" or getattr(options, "compile", False):
                    _attack_copy(network, info.shape)
    return network


def _train_once(network: Classifier, shape: tuple[int, int, int]) -> None:
    training = copy.deepcopy(network).train()
    features = training.features(probe(shape))
    if not isinstance(features, Tensor):
        raise TypeError(
            f"in training mode it returns {type(features).__name__}; it must return the logits alone"
        )
    training.head(features).sum().backward()


@torch.no_grad()
def _attack_copy(network: Classifier, shape: tuple[int, int, int]) -> None:
    images = probe(shape)
    copied = AttackCopy(network, torch.float32).refresh()
    if not torch.allclose(copied(images), network.eval()(images), rtol=1e-3, atol=1e-4):
        raise TypeError(
            "the copy that bf16 and compile attack computes something else; use precision=float32"
        )
    AttackCopy(network, torch.bfloat16).refresh()(images)
