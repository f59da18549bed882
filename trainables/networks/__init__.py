"""Build a classifier by the name of its architecture; images in [0, 1] are normalised in its first layer."""

from collections.abc import Sequence

from trainables.base.errors import InputError
from trainables.base.registry import resolve_reference
from trainables.networks.body import Body, Classifier, Normalize
from trainables.options.networks import NETWORKS

__all__ = ["Body", "Classifier", "Normalize", "build"]


def build(
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
) -> Classifier:
    """Return a freshly initialised classifier; the weights come from torch's global generator.

    Args:
        name: of `trainables.options.networks.NETWORKS`.
        num_classes: at least 2.
        shape: (channels, height, width) of one image.
        mean, std: per channel, of images in [0, 1].
        dropout: share of dropped units where the architecture has dropout.

    Returns:
        A module from (n, c, h, w) in [0, 1] to (n, num_classes) logits, with `features`, `head`, and `body`
        for inputs that must not be normalised.

    Raises:
        InputError: an unknown name (the nearest is suggested), a shape that does not suit the architecture
            (those that it suits are named), or a mean or std of another number of channels.
    """
    spec = NETWORKS[name]
    channels, height, width = shape
    if not spec.takes(height, width):
        others = ", ".join(other.name for other in NETWORKS if other.takes(height, width))
        raise InputError(
            f"network {name} takes images of {spec.smallest} to {spec.largest} pixels a side, "
            f"not {height} x {width}; {f'these take them: {others}' if others else 'no network takes them'}"
        )
    if num_classes < 2 or channels < 1:
        raise InputError(
            f"network {name} needs 2 classes and 1 channel at least, not {num_classes}, {channels}"
        )
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"images have {channels} channels, but mean has {len(mean)} and std {len(std)}")
    body: Body = resolve_reference(spec.build)(num_classes, shape, dropout, **spec.arguments)
    return Classifier(Normalize(mean, std), body)
