"""Build a classifier by the name of its architecture; images in [0, 1] are normalised in its first layer."""

from collections.abc import Sequence
from typing import Any

from trainables.base.errors import InputError
from trainables.base.registry import resolve_reference
from trainables.networks.body import Body, Classifier, Normalize
from trainables.options.networks import NETWORKS, check_suits

__all__ = ["Body", "Classifier", "Normalize", "build", "build_for"]


def build_for(
    options: Any, info: Any, *, dropout: float | None = None, published: bool = False
) -> Classifier:
    """Return a freshly initialised classifier as the options of a training say, for the images of a data set.

    Args:
        options: `trainables.options.common.TrainingOptions`.
        info: of the data set (`DatasetInfo`).
        dropout: another than the options'.
        published: start from the published weights if the options say `pretrained`; False where weights are loaded.

    Raises:
        InputError: see `build`.
    """
    return build(
        options.network,
        info.num_classes,
        info.shape,
        info.mean,
        info.std,
        options.dropout if dropout is None else dropout,
        normalize=options.normalize == "dataset",
        pretrained=published and options.pretrained,
    )


def build(
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
    *,
    normalize: bool = True,
    pretrained: bool = False,
) -> Classifier:
    """Return a freshly initialised classifier; the weights come from torch's global generator.

    Args:
        name: of `trainables.options.networks.NETWORKS`.
        num_classes: at least 2.
        shape: (channels, height, width) of one image.
        mean, std: per channel, of images in [0, 1].
        dropout: share of dropped units where the architecture has dropout.
        normalize: False gives the body the images in [0, 1] as they are. A network from elsewhere that has an attribute
            `normalizes` which is true gets them so anyway.
        pretrained: start from the published weights of `torchvision:NAME` or `timm:NAME`.

    Returns:
        A module from (n, c, h, w) in [0, 1] to (n, num_classes) logits, with `features`, `head`, and `body`
        for inputs that must not be normalised.

    Raises:
        InputError: an unknown name (the nearest is suggested), a shape that does not suit the architecture
            (those that it suits are named), a mean or std of another number of channels, a network from elsewhere that
            does not suit, or one without published weights.
    """
    spec = NETWORKS[name]
    check_suits(spec, num_classes, shape, pretrained)
    channels = shape[0]
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"images have {channels} channels, but mean has {len(mean)} and std {len(std)}")
    arguments = dict(spec.arguments)
    if pretrained:
        arguments["pretrained"] = True
    body: Body = resolve_reference(spec.build)(num_classes, shape, dropout, **arguments)
    if not normalize or getattr(body, "normalizes", False):
        mean, std = (0.0,) * channels, (1.0,) * channels
    return Classifier(Normalize(mean, std), body)
