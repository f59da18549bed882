"""Fit detectors on training images and score sets of images with them.

A detector never sees OOD images to fit and has its paper's settings: nothing is tuned. ReAct and ASH come from
pytorch-ood. ODIN, Mahalanobis, KNN and ViM agree with it wherever both are accurate; each file says what made own code
necessary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.base.errors import InputError
from trainables.data.loading.stream_loader import in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.image_batches import batch_size
from trainables.evaluation.detectors.base import Detector, FeatureDetector
from trainables.evaluation.detectors.features import features_of, first_fit_images
from trainables.evaluation.metrics.detector_specs import DETECTORS
from trainables.evaluation.metrics.metrics_per_set import ScoresBySet
from trainables.networks import Classifier


def score_all(
    network: Classifier,
    train: LabelledImages,
    images: Mapping[str, Any],
    names: Sequence[str],
    device: torch.device | str,
    unsuited: dict[str, str] | None = None,
    dataset: str = "",
) -> dict[str, ScoresBySet]:
    """Fit detectors on training images and score sets of images.

    Features are computed once for all detectors that need them.

    Args:
        train: of the ID classes; nothing else is looked at to fit.
        images: {set: images, an array or lazy}.
        names: of `DETECTORS`.
        unsuited: takes {detector: reason} of those that do not suit the network or the training images, which are
            then left out.
        dataset: its name; KNN looks at more neighbours in larger ones.

    Returns:
        {detector: {set: (n,) float64 scores}}.

    Raises:
        InputError: an unknown name; without `unsuited` also a detector that does not suit.
    """
    specs = [DETECTORS[name] for name in names]
    train = first_fit_images(train)
    detectors: dict[str, Detector] = {}
    seen: Tensor | None = None
    for spec in specs:
        detector = spec.load()
        if isinstance(detector, Detector):
            detector = detector.for_dataset(dataset)
        try:
            if isinstance(detector, FeatureDetector):
                seen = features_of(network, train.images, device) if seen is None else seen
                detector.fit_features(seen, torch.tensor(train.labels), network.head)
            else:
                detector.fit(network, train, device)
        except InputError as error:
            if unsuited is None:
                raise
            unsuited[spec.name] = str(error)
            continue
        detectors[spec.name] = detector
    features: dict[str, Tensor] = {}
    if any(isinstance(detector, FeatureDetector) for detector in detectors.values()):
        features = {name: features_of(network, part, device) for name, part in images.items()}
    scores: dict[str, ScoresBySet] = {}
    size = batch_size(device)
    for name, detector in detectors.items():
        if isinstance(detector, FeatureDetector):
            scores[name] = {s: detector.score_features(z).numpy() for s, z in features.items()}
        else:
            scores[name] = {
                s: torch.cat([detector.score(x) for x in in_order(part, size, device)]).numpy()
                for s, part in images.items()
            }
    return scores
