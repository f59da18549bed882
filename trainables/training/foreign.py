"""A checkpoint of this program made of weights of another one, so that they can be evaluated like any other."""

from pathlib import Path

import torch

from trainables.base.schema import build
from trainables.data.types.splits import DatasetInfo
from trainables.networks import build_for
from trainables.networks.weights import load_weights
from trainables.options.classifiers import StandardOptions
from trainables.training.checkpoints import to_bytes


def checkpoint_of_weights(
    path: Path, network: str, normalize: str, info: DatasetInfo, data_dir: str
) -> bytes:
    """Return the bytes of a checkpoint that holds the weights of a file.

    Args:
        network, normalize: as the options of these names.
        info: of the data set that the network was made for.

    Raises:
        InputError: no such network, or the weights do not fit it.
    """
    given = {"dataset": info.name, "data_dir": data_dir, "network": network, "normalize": normalize}
    options = build(StandardOptions, given)
    with torch.device("meta"):
        classifier = build_for(options, info)
    return to_bytes("standard", options, load_weights(path, classifier, str(path)), info)
