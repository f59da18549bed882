"""Options of adversarial noise training and of the plain noise augmentations that it is compared with."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.common import PretrainOptions, TrainingOptions

GENERATORS = ("1x1", "3x3")
NOISES = ("gaussian", "gaussian_multi", "speckle")


@dataclass(frozen=True)
class NoiseTrainingOptions(TrainingOptions):
    """What adversarial and plain noise training share, under the same names, so that arms can swap them."""

    from_pretrained: bool = option(True, "start from the pretrained classifier, else from scratch")
    pretrain: PretrainOptions = group(PretrainOptions)
    p_clean: float = option(0.5, "share of a batch that stays as it is", low=0.0, high=1.0)
    rms: float = option(
        0.0,
        "root mean square of the added noise per value after clipping: L2 = rms * sqrt(c h w)",
        low=0.0,
        high=1.0,
    )
    l2: float = option(0.0, "L2 length of the added noise per image, instead of rms; 0 = take rms", low=0.0)


@dataclass(frozen=True)
class ANTOptions(NoiseTrainingOptions):
    """Adversarial noise training; defaults suit the digits task, upstream's ImageNet values are in the study."""

    lr: float = option(3e-3, "largest learning rate of the schedule", low=0.0)
    epochs: int = option(20, "length of the training schedule; early stopping may end sooner", low=1)
    rms: float = option(
        0.3,
        "root mean square of the added noise per value after clipping: L2 = rms * sqrt(c h w)",
        low=0.0,
        high=1.0,
    )
    ng_type: str = option("1x1", "3x3 makes locally correlated noise", choices=GENERATORS)
    ng_width: int = option(20, "hidden channels of the noise generator", low=1, high=512)
    lr_ng: float = option(1e-3, "Adam's learning rate for the generator's step before every batch", low=0.0)
    lr_ng_retrain: float = option(
        1e-2, "Adam's learning rate for a fresh generator at an epoch's start", low=0.0
    )
    retrain_iters: int = option(
        50, "steps that a fresh generator is trained for at an epoch's start; 0 keeps the old one", low=0
    )
    p_current: float = option(
        0.3,
        "share of a batch with noise of the current generator, at most what p_clean leaves",
        low=0.0,
        high=1.0,
    )
    p_history: float = option(
        0.1,
        "share of a batch per earlier generator; as many are drawn as the rest of the batch takes",
        low=0.0,
        high=1.0,
    )
    sin_rows: int = option(0, "unnoised images of a batch that are replaced by stylised ones", low=0)
    sin_dir: str = option(
        "", "stylised copy of the training set: class folders of images, or one npz file", path=True
    )


@dataclass(frozen=True)
class NoiseAugmentOptions(NoiseTrainingOptions):
    """Cross-entropy training in which a share of every batch carries random noise."""

    lr: float = option(3e-3, "largest learning rate of the schedule", low=0.0)
    epochs: int = option(20, "length of the training schedule; early stopping may end sooner", low=1)
    kind: str = option(
        "gaussian",
        "gaussian_multi draws a sigma per image, speckle too and multiplies by the image",
        choices=NOISES,
    )
    sigma: float = option(0.5, "kind=gaussian: standard deviation before clipping", low=0.0, high=10.0)
    sigmas: tuple[float, ...] = option(
        (), "kind=gaussian_multi, speckle: the standard deviations to draw from; empty = upstream's five"
    )
