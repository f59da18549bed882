"""Options of adversarial training: PGD-AT, TRADES and MART."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.common import PretrainOptions, TrainingOptions


@dataclass(frozen=True)
class TrainingAttackOptions:
    """The PGD attack that training defends against, in the Linf ball within the [0, 1] box."""

    epsilon: float = option(0.2, "radius in [0, 1] pixel units", low=0.0, high=1.0, radius=True)
    widen: float = option(1.0, "train at this multiple of epsilon", low=0.0, high=10.0)
    steps: int = option(10, "gradient steps", low=1, high=1000)
    step_scale: float = option(2.5, "step length = step_scale * radius / steps", low=0.0)


@dataclass(frozen=True)
class PGDATOptions(TrainingOptions):
    """Cross-entropy on attacked images."""

    epochs: int = option(18, "length of the training schedule; early stopping may end sooner", low=1)
    lr: float = option(6e-3, "largest learning rate of the schedule", low=0.0)
    attack: TrainingAttackOptions = group(TrainingAttackOptions)
    attack_bn: str = option(
        "eval",
        "eval attacks the network in eval mode; train uses batch statistics and dropout",
        choices=("eval", "train"),
    )
    from_pretrained: bool = option(False, "start from the pretrained classifier")
    pretrain: PretrainOptions = group(PretrainOptions)
    speed_images: int = option(
        0, "measure the relative boundary speed on so many training images after every epoch; 0 = off", low=0
    )
    speed_radius: float = option(
        0.2, "of these images, those whose margin is below this radius count", low=0.0, high=1.0, radius=True
    )


@dataclass(frozen=True)
class TRADESOptions(PGDATOptions):
    """Clean cross-entropy plus the divergence between clean and attacked predictions."""

    beta: float = option(6.0, "weight of the divergence", low=0.0)
    label_smoothing: float = option(
        0.0, "share of the label spread over all classes; .1 in the DyART code", low=0.0, high=0.9
    )


@dataclass(frozen=True)
class MARTOptions(PGDATOptions):
    """Boosted cross-entropy on attacked images plus a divergence that weighs misclassified ones more."""

    beta: float = option(6.0, "weight of the divergence", low=0.0)
